"""Stable Diffusion's x4 upscaler and its derivatives in diffusers layout into a model folder.

They are image models: frame by frame, or held together by propagation along the optical flow. No
number is changed; pickles become safetensors, and every file gets its hash.
"""

from dataclasses import replace
from pathlib import Path

import torch

from legato.models.convert.foreign import ForeignFolder
from legato.models.folder import read_json
from legato.models.load import checked_manifest
from legato.models.manifest import Manifest
from legato.models.parts import (
    SCHEDULE,
    load_autoencoder,
    load_unet,
)
from legato.models.save import UpscalerParts, save_upscaler


def convert_image_upscaler(
    source: Path, target: Path, *, base: Path | None = None, dtype: torch.dtype = torch.float16
) -> Manifest:
    """Write a model folder from one of diffusers.

    Args:
        source: folder with `unet/`, `vae/`, `scheduler/`, `low_res_scheduler/`, `text_encoder/` and
            `tokenizer/`, or of a U-Net alone.
        target: folder to write.
        base: folder that gives the parts that the source lacks.
        dtype: precision of what is written.

    Raises:
        ModelError: a part is missing, damaged, or does not fit the others.
        InputError: the target is a folder of something else.
    """
    folder = ForeignFolder(source, base=base)
    unet, autoencoder = load_unet(folder), load_autoencoder(folder)
    schedule = folder.config("scheduler", SCHEDULE)
    found = checked_manifest(folder, unet, autoencoder, schedule)
    index = source / "model_index.json"
    level = read_json(index).get("max_noise_level") if index.is_file() else None
    defaults = found.defaults if level is None else replace(found.defaults, max_noise_level=level)
    manifest = replace(found, name=target.name, licence=folder.licence(), defaults=defaults)
    parts = UpscalerParts(
        unet=unet,
        autoencoder=autoencoder,
        text=folder,
        schedule=schedule,
        low_res_schedule=folder.config("low_res_scheduler", SCHEDULE),
    )
    return save_upscaler(target, parts, manifest, dtype=dtype)
