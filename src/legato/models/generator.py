"""A generating model as the pipelines use it: key frames, frames between them, and a decoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from legato.errors import ModelError
from legato.models.box_layout import BoxLayout
from legato.models.decoder import TemporalDecoder
from legato.models.inflate import VideoModel
from legato.models.manifest import GeneratorDefaults
from legato.models.text import WordEncoder
from legato.models.text_encoder import ClipText


@dataclass(frozen=True, kw_only=True)
class GeneratorModel:
    """A complete Video LDM, ready to use; made by `load_generator`."""

    root: Path
    """Its folder."""
    name: str
    licence: str
    sha256: str
    """Of all its files together."""
    scale: int
    """Pixels per latent cell, each way."""
    latent_channels: int
    defaults: GeneratorDefaults
    unet: VideoModel
    """Image model with the temporal layers of key frames and prediction."""
    interpolation: VideoModel | None
    """The model of the frames between; None: the folder holds none."""
    autoencoder: TemporalDecoder
    text: WordEncoder | ClipText
    """Embeds prompts for the image model."""
    temporal_text: WordEncoder | ClipText | None
    """Embeds them for the temporal layers; None: as for the image model."""
    schedule: Mapping[str, object]
    """Fields of the sampler's diffusers configuration."""
    layout: BoxLayout | None
    """What tells the image model of boxes; None: it cannot be told."""
    upsampler: Path | None
    """Folder of the upscaling model that goes with it."""

    @property
    def predicts(self) -> bool:
        """Whether key frames can follow given ones."""
        return self.unet.context_channels is not None

    def require(self, part: str, *, why: str) -> ModelError:
        """Return the error for a stage model that the folder lacks."""
        return ModelError(
            f"model {self.name!r} lacks {part}/",
            why=why,
            fix=f"put that part into {self.root}, or do without it",
        )

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Float[Tensor, "1 N D"]:
        """Return the embedded prompt.

        Raises:
            InputError: the model knows a closed vocabulary, and the prompt has another word.
        """
        return self.text.encode(prompt)

    @torch.no_grad()
    def encode_temporal_prompt(self, prompt: str) -> Float[Tensor, "1 N E"] | None:
        """Return the prompt as the temporal layers read it; None: they read the image model's.

        Raises:
            InputError: as `encode_prompt`.
        """
        return None if self.temporal_text is None else self.temporal_text.encode(prompt)

    @torch.no_grad()
    def encode(self, frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T C h w"]:
        """Return the scaled latents of frames in [-1, 1], float32."""
        return self.autoencoder.encode(frames.to(self.autoencoder.dtype)).float()

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T 3 H W"]:
        """Return the frames of scaled latents, about [-1, 1]."""
        return self.autoencoder.decode(latents.to(self.autoencoder.dtype)).float()
