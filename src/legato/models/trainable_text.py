"""What embeds an image model's prompts, with gradients: to be trained, or to stay as it is."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import ModelError
from legato.models.text import WordEncoder
from legato.models.text_encoder import ClipPair, ClipText


class TrainableText(nn.Module):
    """Embeds prompts as the encoder that it is made of does, in float32.

    Args:
        text: a closed vocabulary, or CLIP's text transformer, which is read again.

    Raises:
        ModelError: the transformer cannot be read, or there are two.
    """

    def __init__(self, text: WordEncoder | ClipText | ClipPair) -> None:
        super().__init__()
        if isinstance(text, ClipPair):
            raise ModelError(
                "models with two text encoders cannot be trained",
                why="only translate knows those of Stable Diffusion XL",
                fix="use a model of Stable Diffusion's 1.x or 2.x kind",
            )
        self.prompt_tokens = text.prompt_tokens
        self.is_clip = isinstance(text, ClipText)
        self.encoder: nn.Module = text.read()[1] if isinstance(text, ClipText) else text
        self.encoder.float()

    def forward(self, prompts: Sequence[str]) -> Float[Tensor, "B N D"]:
        """Return the embedded prompts.

        Raises:
            InputError: a closed vocabulary lacks a word.
        """
        tokens = torch.stack([self.prompt_tokens(prompt) for prompt in prompts])
        out = self.encoder(tokens.to(next(self.parameters()).device))
        embedded: Tensor = out[0] if self.is_clip else out
        return embedded
