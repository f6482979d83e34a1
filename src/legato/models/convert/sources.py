"""What a foreign folder or file is, told by its contents, and its way into a model folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from legato.errors import InputError, ModelError
from legato.models.folder import read_json
from legato.models.manifest import MANIFEST, Manifest

DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How a foreign model is converted."""

    decoder: Literal["vae_video", "vae_3d"] | None = None
    """Of Upscale-A-Video: the temporal decoder of the paper, or the one that decodes frame by
    frame. Default: vae_video."""

    base: Path | None = None
    """Folder of an image model: gives the parts that a derivative of an image upscaler lacks, or
    the image model that motion modules then form a whole model with."""

    dtype: Literal["float16", "float32"] | None = None
    """Precision of what is written. Default: float16, of RAFT the file's own."""

    @property
    def precision(self) -> torch.dtype:
        """Of a model's weights."""
        return DTYPES[self.dtype or "float16"]


@dataclass(frozen=True)
class Source:
    """A kind of folder that can be converted."""

    what: str
    """In words."""
    options: frozenset[str]
    """Names of the options that mean something for it, besides the precision."""
    convert: Callable[[Path, Path, ConvertOptions], Manifest]


def _upscale_a_video(source: Path, target: Path, options: ConvertOptions) -> Manifest:
    from legato.models.convert.upscale_a_video import convert_upscale_a_video

    decoder, dtype = options.decoder or "vae_video", options.precision
    return convert_upscale_a_video(source, target, decoder=decoder, dtype=dtype)


def _image_upscaler(source: Path, target: Path, options: ConvertOptions) -> Manifest:
    from legato.models.convert.image_upscaler import convert_image_upscaler

    return convert_image_upscaler(source, target, base=options.base, dtype=options.precision)


def _animatediff(source: Path, target: Path, options: ConvertOptions) -> Manifest:
    from legato.models.convert.animatediff import convert_animatediff

    return convert_animatediff(source, target, base=options.base, dtype=options.precision)


def _stable_video_diffusion(source: Path, target: Path, options: ConvertOptions) -> Manifest:
    from legato.models.convert.stable_video_diffusion import convert_stable_video_diffusion

    return convert_stable_video_diffusion(source, target, dtype=options.precision)


UPSCALE_A_VIDEO = Source(
    "Upscale-A-Video's files (unet/unet_video.bin)", frozenset({"decoder"}), _upscale_a_video
)
ANIMATEDIFF = Source(
    "AnimateDiff's motion modules (a MotionAdapter of diffusers, or the authors' .ckpt or "
    ".safetensors file)",
    frozenset({"base"}),
    _animatediff,
)
BY_CLASS: dict[str, Source] = {
    "UNet2DConditionModel": Source(
        "an image upscaler of diffusers (Stable Diffusion x4 and its derivatives)",
        frozenset({"base"}),
        _image_upscaler,
    ),
    "UNetSpatioTemporalConditionModel": Source(
        "Stable Video Diffusion of diffusers", frozenset(), _stable_video_diffusion
    ),
    "MotionAdapter": ANIMATEDIFF,
}
"""Class in the configuration -> kind."""
FILES = (".ckpt", ".pth", ".pt", ".bin", ".safetensors")
"""Endings of single files with motion modules, or with RAFT's weights, which are no model's."""
SOURCES = (UPSCALE_A_VIDEO, *BY_CLASS.values())


def recognise(source: Path) -> Source:
    """Return the kind of a foreign folder or file.

    Raises:
        ModelError: there is none, it is a model folder already, or of no kind that can be
            converted.
    """
    if source.is_file() and source.suffix.lower() in FILES:
        return ANIMATEDIFF
    if source.is_file():
        raise ModelError(
            f"{source} is not a file that can be converted",
            why="single files are AnimateDiff's motion modules or RAFT's weights, "
            f"{', '.join(FILES)}",
            fix="name one, or a model's folder",
        )
    if not source.is_dir():
        raise ModelError(f"{source}", why="there is no such folder", fix="name another")
    if (source / MANIFEST).is_file():
        raise ModelError(
            f"{source} is a model folder already", why=f"it has a {MANIFEST}", fix="use it as it is"
        )
    if (source / "unet" / "unet_video.bin").is_file():
        return UPSCALE_A_VIDEO
    configs = [source / "unet" / "config.json", source / "config.json"]
    config = next((path for path in configs if path.is_file()), None)
    name = read_json(config).get("_class_name") if config else None
    kind = BY_CLASS.get(name) if name else None
    if kind is not None and (kind is not ANIMATEDIFF or config == configs[1]):
        return kind
    raise ModelError(
        f"{source} is not a model that can be converted",
        why=f"{config} describes a {name}" if config else f"there is no {configs[0]}",
        fix=f"give {'; or '.join(kind.what for kind in SOURCES)}",
    )


def convert(source: Path, target: Path, options: ConvertOptions) -> Manifest:
    """Write a model folder from a foreign one; nothing stands at the target until it is whole.

    Args:
        source: folder or file of a released model.
        target: folder to write.
        options: precision, and choices of single kinds.

    Raises:
        ModelError: the source is of no known kind, a file is missing, damaged, holds more than
            tensors, or does not fit.
        InputError: an option that means nothing for this kind, or the target is something else.
    """
    kind = recognise(source)
    for name in ("decoder", "base"):
        if getattr(options, name) is not None and name not in kind.options:
            raise InputError(
                f"{name}={getattr(options, name)}",
                why=f"it means nothing for {kind.what}",
                fix="leave it out",
            )
    return kind.convert(source, target, options)
