"""Whether a generated video fits into memory and on the disk; asked before any of it is made."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from legato.device import available_memory_bytes
from legato.errors import InputError, ResourceError
from legato.models.folder import ModelFolder
from legato.models.generator import GeneratorModel
from legato.models.spec import find_folder
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation import Generation
from legato.pipelines.generation_settings import Settings
from legato.pipelines.memory import LIVE_SHARE, SHARE, memory_errors
from legato.pipelines.output import bytes_on_disk
from legato.video.codecs import CodecOptions
from legato.video.probe import VideoFacts


def require_sides(options: GenerateOptions) -> None:
    """Refuse a size that the model cannot make; of its files only configurations are read.

    Raises:
        InputError: a side is no multiple of what the U-Net takes.
        ModelError: a configuration is missing or damaged.
    """
    folder = ModelFolder(find_folder(options.model), headers_only=True)
    image = ModelFolder(find_folder(options.spatial or options.model), headers_only=True)
    manifest = folder.manifest
    widths = image.config("unet").get("block_out_channels") if image.has("unet") else None
    if manifest is None or not isinstance(widths, list):
        return  # loading tells what is wrong with it
    multiple = manifest.scale * 2 ** (len(widths) - 1)
    for name in ("width", "height"):
        side = getattr(options, name) or getattr(manifest.defaults, name, None)
        if side is not None and (side < multiple or side % multiple):
            raise InputError(
                f"{name}={side}",
                why=f"this model makes multiples of {multiple} pixels",
                fix=f"use {max(round(side / multiple), 1) * multiple}",
            )


def require_memory(model: GeneratorModel, settings: Settings, device: torch.device) -> None:
    """Refuse a size whose key frames cannot be denoised.

    Raises:
        ResourceError: the U-Net's maps at the latents' size alone need too much; says how much.
    """
    shape: Any = model.unet.spatial.config
    cells = settings.width * settings.height // model.scale**2
    itemsize = next(model.unet.parameters()).element_size()
    largest = 2 * shape.block_out_channels[0] * itemsize * settings.window * cells
    needed, available = LIVE_SHARE * largest, available_memory_bytes(device)
    if needed > SHARE * available:
        raise ResourceError(
            f"about {needed / 1e9:.1f} GB of memory needed for {settings.width}x{settings.height}, "
            "at the least",
            why=f"{available / 1e9:.1f} GB are available and {SHARE:.0%} of them may be used",
            fix="use a smaller --width and --height, or a smaller --window",
        )


def memory_needed(
    target: Path, settings: Settings, *, is_plan: bool = False
) -> AbstractContextManager[None]:
    """Return a block in which memory that runs out is told with the dials that need less.

    Args:
        target: of the video.
        settings: of the video.
        is_plan: whether nothing is kept that another size would have to begin anew.

    Raises:
        ResourceError: it did.
    """
    return memory_errors(
        str(target),
        why=f"frames of {settings.width}x{settings.height} do not fit",
        fix="use a smaller --width and --height" + ("" if is_plan else ", with --restart"),
    )


def disk_bytes(generation: Generation, facts: VideoFacts, codec: CodecOptions) -> int:
    """Estimate what a video takes on the disk until it is complete.

    Args:
        generation: whose folder takes latents and segments.
        facts: of the video.
        codec: of what is decoded.
    """
    size, num_frames = (facts.width, facts.height), generation.settings.timeline.num_frames
    video = bytes_on_disk(facts, codec, size=size, num_frames=num_frames)
    return generation.latent_bytes + video
