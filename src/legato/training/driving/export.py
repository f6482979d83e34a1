"""The trained driving model as a folder that `legato generate` uses, and back."""

from dataclasses import replace
from pathlib import Path

import torch

from legato.diffusion.noise import NoisePrior
from legato.diffusion.schedule import Schedule
from legato.errors import ModelError
from legato.models.generator_folder import GeneratorParts, load_generator, save_generator
from legato.models.inflate import inflate
from legato.models.manifest import GeneratorDefaults, Manifest
from legato.models.text import WordEncoder
from legato.training.driving.clips import ClipOptions
from legato.training.driving.model import FACTOR, DrivingModel, DrivingSystem
from legato.training.driving.render import SIZE
from legato.training.export import scheduler_config

MANIFEST = Manifest(
    name="driving",
    family="video_ldm",
    licence="Apache-2.0",
    job="generate",
    scale=FACTOR,
    defaults=GeneratorDefaults(
        steps=16,
        interpolation_steps=1,
        interpolation_start="blend",
        guidance_scale=1.5,
        translation_guidance=2.5,
        temporal_guidance=1.5,
        temporal_share=0.5,
        motion_guidance=1.0,
        motion_share=0.3125,
        speed=10.0,
        anchoring=0.8,
        key_frame_rate=ClipOptions().key_frame_rate,
        interpolations=1,
        width=SIZE[1],
        height=SIZE[0],
        decoder_fusion=2,
    ),
)


def export_driving(system: DrivingSystem, target: Path) -> Path:
    """Write what there is of the model in half precision; return the folder."""
    image = system.image
    parts = GeneratorParts(
        unet=system.key_frames or inflate(image.unet, "image"),
        autoencoder=system.autoencoder,
        text=image.words,
        schedule={"_class_name": "DDIMScheduler", **scheduler_config(image.schedule)},
        interpolation=system.interpolation,
        layout=image.layout,
    )
    prior, (rows, columns) = system.prior, system.size
    defaults = replace(
        MANIFEST.generating,
        noise_prior=prior.kind,
        noise_strength=prior.strength,
        width=columns,
        height=rows,
    )
    save_generator(target, parts, replace(MANIFEST, defaults=defaults), dtype=torch.float16)
    return target


def load_driving(name_or_path: str) -> DrivingSystem:
    """Return the model that `export_driving` wrote, in float32.

    Raises:
        ModelError: a part is missing or damaged, or it is another model.
    """
    model = load_generator(name_or_path, torch.device("cpu"), torch.float32)
    if model.layout is None or not isinstance(model.text, WordEncoder):
        raise ModelError(
            f"model {model.name!r}",
            why="it has no vocabulary or takes no boxes, as the driving model does",
            fix="use a folder that legato train driving wrote",
        )
    image = DrivingModel(
        model.unet.spatial,
        model.autoencoder.spatial,
        model.text,
        model.layout,
        Schedule.from_config(model.schedule),
    )
    return DrivingSystem(
        image=image,
        key_frames=model.unet if model.predicts else None,
        interpolation=model.interpolation,
        decoder=model.autoencoder if model.autoencoder.is_temporal else None,
        prior=NoisePrior(kind=model.defaults.noise_prior, strength=model.defaults.noise_strength),
    )
