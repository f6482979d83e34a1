"""What a U-Net of Stable Diffusion XL reads beside tokens: a prompt as a whole, and sizes.

Podell et al. 2023, arXiv:2307.01952, section 2.2. Nothing is told of cropping: pictures are whole.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

ADDITION = "text_time"
"""Diffusers' name for it, `addition_embed_type` of the U-Net."""
PIXELS_PER_CELL = 8
NUM_SIZES = 6
"""Rows and columns of the original, of the crop's corner, and of the picture."""


def whole_width(config: Any) -> int:  # noqa: ANN401 - diffusers'
    """Return the numbers that tell a prompt as a whole, of a U-Net's configuration."""
    sizes = NUM_SIZES * (config.addition_time_embed_dim or 0)
    return (config.projection_class_embeddings_input_dim or 0) - sizes


def split_text(
    unet: nn.Module, text: Float[Tensor, "B N D"] | None, rows: int, cols: int
) -> tuple[Float[Tensor, "B n D"] | None, dict[str, Tensor]]:
    """Return the tokens that cross-attention reads, and what else the U-Net is told of each clip.

    Args:
        unet: of diffusers; where it reads tokens alone, the text is returned as it is.
        text: embedded prompts; the last token is the prompt as a whole (`ClipPair`).
        rows: of the latents.
        cols: of the latents.
    """
    config: Any = getattr(unet, "config", None)
    if text is None or getattr(config, "addition_embed_type", None) != ADDITION:
        return text, {}
    height, width = PIXELS_PER_CELL * rows, PIXELS_PER_CELL * cols
    sizes = torch.tensor([height, width, 0, 0, height, width], dtype=text.dtype, device=text.device)
    added = {
        "text_embeds": text[:, -1, : whole_width(config)],
        "time_ids": sizes.expand(len(text), -1),
    }
    return text[:, :-1], added
