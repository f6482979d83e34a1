"""Whether a generated video fits into memory and on the disk; asked before any of it is made."""

from pathlib import Path
from typing import Any

import torch

from legato.device import available_memory_bytes
from legato.errors import ResourceError
from legato.models.generator import GeneratorModel
from legato.pipelines.generation_settings import Settings
from legato.pipelines.memory import LIVE_SHARE, SHARE
from legato.pipelines.output import bytes_on_disk, require_space
from legato.video.codecs import CodecOptions
from legato.video.probe import VideoFacts

LATENT_BYTES = 4  # of each number of the frames that lie on the disk


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


def require_disk(
    folder: Path, facts: VideoFacts, codec: CodecOptions, settings: Settings, latent: torch.Size
) -> None:
    """Refuse a length that the disk cannot hold.

    Args:
        folder: where latents and segments go.
        facts: of the video.
        codec: of what is decoded.
        settings: of the video.
        latent: shape of a frame's latents.

    Raises:
        ResourceError: see `require_space`.
    """
    timeline, size = settings.timeline, (facts.width, facts.height)
    frames = timeline.num_key_frames + timeline.num_latents
    video = bytes_on_disk(facts, codec, size=size, num_frames=timeline.num_frames)
    require_space(folder, LATENT_BYTES * latent.numel() * frames + video)
