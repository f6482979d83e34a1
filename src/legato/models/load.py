"""Upscaling models from folders: the parts, and whether they belong together."""

from dataclasses import replace
from typing import Any

import torch

from legato.errors import ModelError
from legato.models.folder import PICTURE_ENCODER, ModelFolder
from legato.models.inflate import VideoModel
from legato.models.manifest import LAYERS, Manifest, UpscalerDefaults
from legato.models.offload import Offload
from legato.models.parts import (
    SCHEDULE,
    Autoencoder,
    decoder_dtype,
    fill_autoencoder_,
    fill_part_,
    latent_facts,
    load_autoencoder,
    load_text,
    load_unet,
    ready_,
)
from legato.models.spec import find_folder
from legato.models.upscaler import UpscalerModel

PER_FRAME = UpscalerDefaults(guidance_scale=9.0)
"""Of a plain image upscaler: diffusers' defaults; its frames are independent."""


def load_upscaler(name_or_path: str, device: torch.device, dtype: torch.dtype) -> UpscalerModel:
    """Load an upscaling model, frozen and in evaluation mode.

    Args:
        name_or_path: name in `SPECS`, or path of a folder; one of diffusers without `legato.json`
            works frame by frame.
        device: where to put it.
        dtype: precision of the weights.

    Raises:
        ModelError: it is missing, damaged, or not an upscaling model.
    """
    root = find_folder(name_or_path)
    folder = ModelFolder(root)
    refuse_layers(folder, "upscale")
    if folder.manifest is not None:
        require_job(folder.manifest, "upscale")
    unet, autoencoder = load_unet(folder), load_autoencoder(folder)
    schedule = folder.config("scheduler", SCHEDULE)
    low_res_schedule = folder.config("low_res_scheduler", SCHEDULE)
    manifest = checked_manifest(folder, unet, autoencoder, schedule)
    ready_(unet, device, dtype)
    ready_(autoencoder, device, decoder_dtype(autoencoder, dtype))
    return UpscalerModel(
        name=manifest.name,
        licence=manifest.licence,
        sha256=manifest.fingerprint if folder.manifest else "",
        scale=manifest.scale,
        defaults=manifest.upscaling,
        unet=unet,
        autoencoder=autoencoder,
        text=load_text(folder, device, dtype),
        schedule=schedule,
        low_res_schedule=low_res_schedule,
    )


def offloaded(
    model: UpscalerModel, name_or_path: str, device: torch.device, dtype: torch.dtype
) -> UpscalerModel:
    """Return a loaded model of which only the part at work keeps its weights in memory.

    Args:
        model: as `load_upscaler` returned it for the other arguments.
        name_or_path: where its weights are read from again.
        device: where to put them.
        dtype: their precision.
    """
    folder = ModelFolder(find_folder(name_or_path))
    unet, autoencoder = model.unet, model.autoencoder

    def fill_unet() -> None:
        fill_part_(unet.spatial, folder.weights("unet"), "unet")
        if folder.has("temporal"):
            unet.load_temporal_(folder.weights("temporal"), folder.config("temporal"))
        ready_(unet, device, dtype)

    def fill_autoencoder() -> None:
        fill_autoencoder_(autoencoder, folder)
        ready_(autoencoder, device, decoder_dtype(autoencoder, dtype))

    return replace(model, offload=Offload({unet: fill_unet, autoencoder: fill_autoencoder}))


def follows_picture(folder: ModelFolder) -> bool:
    """Tell whether a folder is a whole model of Stable Video Diffusion's kind."""
    return _sees_picture(folder) and folder.has(PICTURE_ENCODER)


def lends_layers(folder: ModelFolder) -> bool:
    """Tell whether a folder is one of temporal layers for others: nothing samples with its U-Net.

    That of Stable Video Diffusion sees a given picture's latents beside its own, whatever an older
    `legato.json` says, and is of no use without what embeds the picture.
    """
    if folder.manifest is not None and folder.manifest.job == LAYERS:
        return True
    return _sees_picture(folder) and not folder.has(PICTURE_ENCODER)


def _sees_picture(folder: ModelFolder) -> bool:
    if not (folder.path("unet") / "config.json").is_file():
        return False
    config = folder.config("unet")
    inner, outer = config.get("in_channels"), config.get("out_channels")
    is_told_numbers = config.get("class_embed_type") == "projection"
    return is_told_numbers and isinstance(outer, int) and inner == 2 * outer


def refuse_layers(folder: ModelFolder, job: str) -> None:
    """Refuse a folder of temporal layers for others, or one that needs a picture to begin with.

    Args:
        folder: of a model.
        job: what it was asked to do.

    Raises:
        ModelError: it is one.
    """
    if lends_layers(folder):
        raise ModelError(
            f"{folder.root} cannot {job}",
            why="it holds temporal layers and the image U-Net of Stable Video Diffusion, and lacks "
            "what embeds the picture that this sees",
            fix="convert the whole folder of Stable Video Diffusion; image models that these "
            "layers attach to are shown by legato models match",
        )
    if job != "generate" and follows_picture(folder):
        raise ModelError(
            f"{folder.root} cannot {job}",
            why="it makes a video of a picture",
            fix="use it with legato generate --first-frame, or another model here",
        )


def require_job(manifest: Manifest, job: str) -> None:
    """Refuse a model that is made for something else.

    Raises:
        ModelError: it is.
    """
    if manifest.job != job:
        raise ModelError(
            f"model {manifest.name!r}", why=f"it is made to {manifest.job}", fix=f"use one to {job}"
        )


def checked_manifest(
    folder: ModelFolder,
    unet: VideoModel,
    autoencoder: Autoencoder,
    schedule: dict[str, Any],
) -> Manifest:
    """Return a folder's `legato.json`, or what stands for it, once the parts belong together.

    Raises:
        ModelError: they do not.
    """
    latent, scale = latent_facts(autoencoder)
    manifest = folder.manifest or Manifest(
        name=folder.root.name,
        family="image",
        licence="unknown",
        scale=scale,
        prediction_type=schedule.get("prediction_type", "epsilon"),
        defaults=PER_FRAME,
    )
    shape: Any = unet.spatial.config
    predicts = schedule.get("prediction_type", "epsilon")
    facts = (
        ("the U-Net's input channels", shape.in_channels, latent + 3),
        ("the U-Net's output channels", shape.out_channels, latent),
        ("the decoder's scale", scale, manifest.scale),
        ("what the scheduler predicts", predicts, manifest.prediction_type),
    )
    for name, value, needed in facts:
        if value != needed:
            raise ModelError(
                f"model {manifest.name!r}: {name} is {value}",
                why=f"the other parts need {needed}",
                fix="use parts that belong together",
            )
    if manifest.upscaling.max_noise_level >= (shape.num_class_embeds or 0):
        raise ModelError(
            f"model {manifest.name!r}: num_class_embeds is {shape.num_class_embeds}",
            why=f"noise levels go up to {manifest.upscaling.max_noise_level}",
            fix="use a U-Net that was trained with noise levels as class labels",
        )
    return manifest
