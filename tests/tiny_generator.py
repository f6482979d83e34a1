"""A tiny complete generating model: the real classes, few channels, layers that act."""

from pathlib import Path

import torch
from tiny import (
    SCHEDULER,
    TEXT_WIDTH,
    randomise_,
    tiny_temporal_decoder,
    tiny_unet,
    tiny_upscaler_folder,
)

from legato.models.box_layout import BoxLayout
from legato.models.generator_folder import GeneratorParts, save_generator
from legato.models.inflate import VideoModel, inflate
from legato.models.manifest import GeneratorDefaults, InterpolationStart, Manifest
from legato.models.text import WordEncoder

LABELS = ["day", "night", "empty", "crowded"]
LAYERS = {"ff_in": False, "ff_multiple": 2, "positions": "rope", "sees_frame_rate": True}


def tiny_generator_unet(seed: int = 0, **options) -> VideoModel:
    """A U-Net of latents alone, whose temporal layers act and take given frames."""
    spatial = tiny_unet(seed, in_channels=4, num_class_embeds=None)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = inflate(spatial, "video_ldm", **({"context_channels": 5} | LAYERS | options)).eval()
    randomise_(model.temporal, seed + 1)
    return model


def tiny_parts(
    *,
    interpolation: str = "shared",
    upsampler: Path | None = None,
    boxes: bool = True,
    words_seed: int = 3,
    **options,
):
    """The parts of a generating model; `interpolation`: shared or own image model, or none."""
    unet = tiny_generator_unet(**options)
    between = None
    if interpolation != "none":
        between = tiny_generator_unet(3, sees_stage=True)
        if interpolation == "shared":
            between = inflate(unet.spatial, "video_ldm", **vars(between.options)).eval()
            randomise_(between.temporal, 9)
    with torch.random.fork_rng():
        torch.manual_seed(words_seed)
        words = WordEncoder(TEXT_WIDTH, LABELS)
        layout = randomise_(BoxLayout(unet.spatial.config.block_out_channels[0])) if boxes else None
    return GeneratorParts(
        unet=unet,
        autoencoder=tiny_temporal_decoder(),
        text=words,
        schedule=SCHEDULER,
        interpolation=between,
        layout=layout,
        upsampler=upsampler,
    )


def tiny_generator_folder(
    target: Path,
    *,
    upsampler: bool = False,
    noise_prior: str = "independent",
    interpolation_start: InterpolationStart = "noise",
    decoder_fusion: int = 0,
    **options,
) -> Path:
    """A folder of the tiny generating model: 16 x 16 pixels, three key frames a clip."""
    large = tiny_upscaler_folder(target.parent / "large") if upsampler else None
    defaults = GeneratorDefaults(
        steps=1,
        window=3,
        key_frame_rate=2.0,
        width=16,
        height=16,
        noise_prior=noise_prior,
        interpolation_start=interpolation_start,
        decoder_window=4,
        decoder_context=1,
        decoder_fusion=decoder_fusion,
    )
    manifest = Manifest(
        name="tiny-generator",
        family="video_ldm",
        licence="Apache-2.0",
        job="generate",
        defaults=defaults,
    )
    parts = tiny_parts(upsampler=large, **options)
    save_generator(target, parts, manifest, dtype=torch.float32)
    return target
