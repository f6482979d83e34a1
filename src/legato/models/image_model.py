"""Image models as the pipelines use them: text, latents, a U-Net, and nothing that knows time.

Two layouts of folders are read: diffusers' own, as Stable Diffusion 1.x, 2.x and XL have it, and
ours with a closed vocabulary in `words/`. Of a generating model the image model is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from legato.errors import InputError, ModelError
from legato.models.decoder import TemporalDecoder
from legato.models.folder import ModelFolder
from legato.models.inflate import VideoModel, inflate
from legato.models.load import refuse_layers
from legato.models.manifest import ImageDefaults
from legato.models.parts import (
    SCHEDULE,
    decoder_dtype,
    latent_facts,
    load_autoencoder,
    load_image_unet,
    load_text,
    ready_,
)
from legato.models.spec import find_folder
from legato.models.text import WordEncoder
from legato.models.text_and_size import ADDITION, NUM_SIZES, PIXELS_PER_CELL
from legato.models.text_encoder import ClipPair, ClipText

JOBS = ("image", "generate")
"""Of models with `legato.json` that have an image model of latents alone."""
SECOND = "text_encoder_2"
"""The part that tells Stable Diffusion XL from those before."""
INDEX = "model_index.json"


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """A latent diffusion model of images; made by `load_image_model`."""

    root: Path
    """Its folder."""
    name: str
    licence: str
    sha256: str
    """Of all its files together; empty where no `legato.json` lists them."""
    scale: int
    """Pixels per latent cell, each way."""
    latent_channels: int
    unet: VideoModel
    autoencoder: TemporalDecoder
    text: WordEncoder | ClipText | ClipPair
    schedule: Mapping[str, Any]
    """Fields of the sampler's diffusers configuration."""
    defaults: ImageDefaults

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the pictures that it was trained on."""
        config: Any = self.unet.spatial.config
        size = config.sample_size or 64  # diffusers': of Stable Diffusion
        rows, cols = (size, size) if isinstance(size, int) else size
        return self.scale * cols, self.scale * rows

    @property
    def short_side(self) -> int:
        """Rows or columns, whichever are fewer, of the pictures that it was trained on."""
        return min(self.size)

    @property
    def multiple(self) -> int:
        """Pixels that divide the sides of its pictures."""
        config: Any = self.unet.spatial.config
        return int(self.scale * 2 ** (len(config.block_out_channels) - 1))

    def size_of(self, width: int | None, height: int | None) -> tuple[int, int]:
        """Return chosen columns and rows; None: its own.

        Raises:
            InputError: it cannot make them.
        """
        chosen = width or self.size[0], height or self.size[1]
        for name, side in zip(("width", "height"), chosen, strict=True):
            if side < self.multiple or side % self.multiple:
                raise InputError(
                    f"{name}={side}",
                    why=f"this model makes multiples of {self.multiple} pixels",
                    fix=f"use {max(round(side / self.multiple), 1) * self.multiple}",
                )
        return chosen

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Float[Tensor, "1 N D"]:
        """Return the embedded prompt.

        Raises:
            InputError: the model knows a closed vocabulary, and the prompt has another word.
        """
        return self.text.encode(prompt)

    @property
    def latent_factor(self) -> float:
        """What the encoder's latents are multiplied by."""
        config: Any = self.autoencoder.spatial.config
        return float(config.scaling_factor)

    @torch.no_grad()
    def encode(self, frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T C h w"]:
        """Return the scaled latents of frames in [-1, 1], float32."""
        return self.autoencoder.encode(frames.to(self.autoencoder.dtype)).float()

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T 3 H W"]:
        """Return the frames of scaled latents, about [-1, 1]."""
        return self.autoencoder.decode(latents.to(self.autoencoder.dtype)).float()


def load_image_model(name_or_path: str, device: torch.device, dtype: torch.dtype) -> ImageModel:
    """Load an image model, frozen and in evaluation mode; temporal layers are left out.

    Args:
        name_or_path: name in `SPECS`, or path of a folder.
        device: where to put it.
        dtype: precision of the weights.

    Raises:
        ModelError: it is missing, damaged, or not an image model of latents alone.
    """
    root = find_folder(name_or_path)
    folder = ModelFolder(root)
    refuse_layers(folder, "make images")
    manifest = folder.manifest
    if manifest is not None and manifest.job not in JOBS:
        raise ModelError(
            f"model {manifest.name!r}",
            why=f"it is made to {manifest.job}",
            fix="use an image model, such as a folder of Stable Diffusion 1.5",
        )
    unet = inflate(load_image_unet(folder), "image")
    autoencoder = load_autoencoder(folder, temporal=False)
    require_image(root, unet, autoencoder)
    assert isinstance(autoencoder, TemporalDecoder)
    latent_channels, scale = latent_facts(autoencoder)
    return ImageModel(
        root=root,
        name=manifest.name if manifest else root.name,
        licence=manifest.licence if manifest else "unknown",
        sha256=manifest.fingerprint if manifest else "",
        scale=scale,
        latent_channels=latent_channels,
        unet=ready_(unet, device, dtype),
        autoencoder=ready_(autoencoder, device, decoder_dtype(autoencoder, dtype)),
        text=_load_text(folder, device, dtype),
        schedule=folder.config("scheduler", SCHEDULE),
        defaults=manifest.imaging if manifest else ImageDefaults(),
    )


def require_image(root: Path, unet: VideoModel, autoencoder: object) -> None:
    """Refuse a model whose U-Net sees more than latents and text.

    Raises:
        ModelError: it does, or its autoencoder cannot decode alone.
    """
    if not isinstance(autoencoder, TemporalDecoder):
        raise ModelError(
            f"{root / 'vae'} cannot decode alone",
            why="its decoder needs low-resolution frames, which nothing gives here",
            fix="use an image model with an AutoencoderKL",
        )
    latent, scale = latent_facts(autoencoder)
    shape: Any = unet.spatial.config
    facts: list[tuple[str, object, object]] = [
        ("input channels", shape.in_channels, latent),
        ("output channels", shape.out_channels, latent),
        ("class labels", shape.num_class_embeds, None),
    ]
    if (root / SECOND).is_dir():
        facts.append(("added conditions", shape.addition_embed_type, ADDITION))
        facts.append(("sizes to be told", _num_sizes(root, shape), NUM_SIZES))
        facts.append(("pixels per latent cell", scale, PIXELS_PER_CELL))
    else:
        facts.append(("added conditions", shape.addition_embed_type, None))
    for name, value, needed in facts:
        if value != needed:
            raise ModelError(
                f"{root}: the U-Net's {name} are {value}",
                why=f"an image model of latents and text has {needed or 'none'}",
                fix="use a text-to-image model of Stable Diffusion's 1.x, 2.x or XL kind",
            )


def _num_sizes(root: Path, config: Any) -> int:  # noqa: ANN401 - diffusers'
    """Return how many numbers a U-Net reads beside the text as a whole: a refiner's are five."""
    whole = ModelFolder(root).config(SECOND).get("projection_dim", 512)  # CLIP's default
    rest = (config.projection_class_embeddings_input_dim or 0) - whole
    return int(rest // (config.addition_time_embed_dim or 1))


def _load_text(
    folder: ModelFolder, device: torch.device, dtype: torch.dtype
) -> WordEncoder | ClipText | ClipPair:
    """Return what embeds prompts.

    Raises:
        ModelError: it is missing or damaged.
    """
    if not folder.has(SECOND):
        return load_text(folder, device, dtype)
    index = folder.config("", INDEX) if (folder.root / INDEX).is_file() else {}
    silent_is_zero = bool(index.get("force_zeros_for_empty_prompt", True))
    return ClipPair(folder.root, device, dtype, silent_is_zero=silent_is_zero)
