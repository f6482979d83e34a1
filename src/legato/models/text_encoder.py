"""Prompts to embeddings with the CLIP text encoders of a diffusers folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging

from legato.errors import ModelError
from legato.models.manifest import REFILL


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What a text encoder makes of a prompt."""

    last: Float[Tensor, "1 N D"]
    """The last hidden state, after the final norm."""
    last_but_one: Float[Tensor, "1 N D"]
    """The hidden state before the last layer, not normed."""
    whole: Float[Tensor, "1 P"] | None
    """The prompt as a whole, projected; None: the encoder has no projection."""


class ClipText:
    """CLIP's tokenizer and text transformer; prompts are cut and padded to its length.

    Embeddings are remembered; the transformer itself, a third of a billion parameters in Stable
    Diffusion 2, leaves memory behind each prompt and is read again for the next one.

    Args:
        root: model folder with `text_encoder/` and `tokenizer/`.
        device: where to embed.
        dtype: precision of the weights.
        number: behind the names of both folders: `_2` of Stable Diffusion XL's second encoder,
            which also projects a prompt as a whole.

    Raises:
        ModelError: a file is missing, damaged or does not fit.
    """

    def __init__(
        self, root: Path, device: torch.device, dtype: torch.dtype, *, number: str = ""
    ) -> None:
        self._source = root, device, dtype
        self._number = number
        self._embedded: dict[str, Embedded] = {}
        self._changes: list[Callable[[CLIPTextModel], None]] = []
        self.tokenizer, encoder = self.read()
        self._encoder: CLIPTextModel | None = encoder

    def read(self) -> tuple[CLIPTokenizer, CLIPTextModel | CLIPTextModelWithProjection]:
        """Return tokenizer and transformer from the folder, frozen.

        Raises:
            ModelError: a file is missing, damaged or does not fit.
        """
        root, device, dtype = self._source
        folder = root / f"text_encoder{self._number}"
        name = folder.name.replace("_", " ")
        kind = CLIPTextModelWithProjection if self._number else CLIPTextModel
        whole = folder / "model.safetensors"
        try:
            tokenizer = CLIPTokenizer.from_pretrained(
                root / f"tokenizer{self._number}", local_files_only=True
            )
            with _without_progress_bars():
                encoder, report = kind.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    variant=None if whole.is_file() else "fp16",
                    dtype=dtype,
                    output_loading_info=True,
                )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise ModelError(f"{name} of {root} cannot be read", why=first, fix=REFILL) from error
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])[:10]
            raise ModelError(
                f"{name} of {root} is not whole",
                why=f"it lacks {', '.join(missing)}",
                fix=REFILL,
            )
        encoder = encoder.to(device).eval().requires_grad_(False)
        for change in self._changes:
            change(encoder)
        return tokenizer, encoder

    def change_(self, change: Callable[[CLIPTextModel], None]) -> None:
        """Change the weights in place, now and whenever they are read again.

        Raises:
            ModelError: the weights cannot be read again; what `change` raises.
        """
        encoder = self.read()[1] if self._encoder is None else self._encoder
        change(encoder)
        self._changes.append(change)
        self._embedded.clear()
        self._encoder = encoder

    def as_prompt(self, text: str) -> str:
        """Return a free text as a prompt: it is one."""
        return text

    @property
    def encoders(self) -> "list[ClipText]":
        """All text encoders: this one."""
        return [self]

    def encode(self, prompt: str) -> Float[Tensor, "1 N D"]:
        """Return the last hidden state, after the final norm, of the padded prompt.

        Raises:
            ModelError: the weights cannot be read again.
        """
        return self.embed(prompt).last

    @torch.no_grad()
    def embed(self, prompt: str) -> Embedded:
        """Return the padded prompt as the encoder embeds it.

        Raises:
            ModelError: the weights cannot be read again.
        """
        if prompt not in self._embedded:
            encoder = self.read()[1] if self._encoder is None else self._encoder
            self._encoder = None
            tokens = self.prompt_tokens(prompt)[None].to(self._source[1])
            out: Any = encoder(tokens, output_hidden_states=True)
            self._embedded[prompt] = Embedded(
                last=out.last_hidden_state,
                last_but_one=out.hidden_states[-2],
                whole=out.get("text_embeds"),
            )
        return self._embedded[prompt]

    def prompt_tokens(self, prompt: str) -> Int[Tensor, "N"]:
        """Return the token numbers of a prompt, cut and padded."""
        tokens: Tensor = self.tokenizer(
            prompt,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids[0]
        return tokens


class ClipPair:
    """Both text encoders of Stable Diffusion XL.

    Podell et al. 2023, arXiv:2307.01952, section 2.1. A prompt as a whole travels as one
    more token, the last, so that it goes wherever the others go; `text_and_size.split_text` takes
    it off before the U-Net.

    Args:
        root: model folder with `text_encoder/`, `tokenizer/` and those numbered `_2`.
        device: where to embed.
        dtype: precision of the weights.
        silent_is_zero: whether the model learned zeros where there is no prompt.

    Raises:
        ModelError: a file is missing, damaged or does not fit.
    """

    def __init__(
        self, root: Path, device: torch.device, dtype: torch.dtype, *, silent_is_zero: bool
    ) -> None:
        self.encoders = [ClipText(root, device, dtype, number=number) for number in ("", "_2")]
        self._silent_is_zero = silent_is_zero

    @torch.no_grad()
    def encode(self, prompt: str) -> Float[Tensor, "1 N D"]:
        """Return the last hidden states but one side by side, and behind them the whole prompt.

        Raises:
            ModelError: the weights cannot be read again.
        """
        first, second = (encoder.embed(prompt) for encoder in self.encoders)
        assert second.whole is not None
        tokens = torch.cat([first.last_but_one, second.last_but_one], dim=-1)
        whole = F.pad(second.whole, (0, tokens.shape[-1] - second.whole.shape[-1]))
        embedded = torch.cat([tokens, whole[:, None]], dim=1)
        return torch.zeros_like(embedded) if self._silent_is_zero and not prompt else embedded


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Within the block, transformers draws none: only the command line draws."""
    drew = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drew:
            logging.enable_progress_bar()
