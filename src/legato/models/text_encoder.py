"""Prompts to embeddings with the CLIP text encoder of a diffusers folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

from legato.errors import ModelError
from legato.models.manifest import REFILL


class ClipText:
    """CLIP's tokenizer and text transformer; prompts are cut and padded to its length.

    Embeddings are remembered; the transformer itself, a third of a billion parameters in Stable
    Diffusion 2, leaves memory behind each prompt and is read again for the next one.

    Args:
        root: model folder with `text_encoder/` and `tokenizer/`.
        device: where to embed.
        dtype: precision of the weights.

    Raises:
        ModelError: a file is missing, damaged or does not fit.
    """

    def __init__(self, root: Path, device: torch.device, dtype: torch.dtype) -> None:
        self._source = root, device, dtype
        self._embedded: dict[str, Tensor] = {}
        self._changes: list[Callable[[CLIPTextModel], None]] = []
        self.tokenizer, encoder = self.read()
        self._encoder: CLIPTextModel | None = encoder

    def read(self) -> tuple[CLIPTokenizer, CLIPTextModel]:
        """Return tokenizer and transformer from the folder, frozen.

        Raises:
            ModelError: a file is missing, damaged or does not fit.
        """
        root, device, dtype = self._source
        whole = root / "text_encoder" / "model.safetensors"
        try:
            tokenizer = CLIPTokenizer.from_pretrained(root / "tokenizer", local_files_only=True)
            with _without_progress_bars():
                encoder, report = CLIPTextModel.from_pretrained(
                    root / "text_encoder",
                    local_files_only=True,
                    use_safetensors=True,
                    variant=None if whole.is_file() else "fp16",
                    dtype=dtype,
                    output_loading_info=True,
                )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise ModelError(
                f"text encoder of {root} cannot be read", why=first, fix=REFILL
            ) from error
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])[:10]
            raise ModelError(
                f"text encoder of {root} is not whole",
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

    @torch.no_grad()
    def encode(self, prompt: str) -> Float[Tensor, "1 N D"]:
        """Return the last hidden state, after the final norm, of the padded prompt.

        Raises:
            ModelError: the weights cannot be read again.
        """
        if prompt in self._embedded:
            return self._embedded[prompt]
        encoder = self.read()[1] if self._encoder is None else self._encoder
        self._encoder = None
        embedded: Tensor = encoder(self.prompt_tokens(prompt)[None].to(self._source[1]))[0]
        self._embedded[prompt] = embedded
        return embedded

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
