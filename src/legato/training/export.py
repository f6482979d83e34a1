"""The trained system as a model folder, and a model folder as the start of a training run."""

from dataclasses import replace
from pathlib import Path

import torch

from legato.diffusion.schedule import Schedule
from legato.models.convert.upscale_a_video import MANIFEST as UPSCALE_A_VIDEO
from legato.models.folder import FolderWriter, ModelFolder
from legato.models.image_model import ImageModel
from legato.models.load import load_upscaler
from legato.models.manifest import ImageDefaults, Manifest, UpscalerDefaults
from legato.models.parts import SCHEDULE
from legato.models.save import (
    UpscalerParts,
    save_upscaler,
    write_decoder,
    write_text,
    write_unet,
)
from legato.models.spec import find_folder
from legato.models.text import WordEncoder
from legato.models.tiny_autoencoder import TinyAutoencoder
from legato.models.trainable_text import TrainableText
from legato.models.upscaler import UpscalerModel
from legato.training.level_stage import KNOTS
from legato.training.refining_stage import FIRST_ESTIMATE_SHARE
from legato.training.stages import EmbeddedUpscaler

NAME = "embedded-x4"
LARGEST_TILE = 512
TRUST = 0.5


def export_embedded(system: EmbeddedUpscaler, target: Path) -> Path:
    """Write the system as a model folder in half precision; return the folder."""
    context = system.autoencoder.decoder.receptive_frames
    defaults = UpscalerDefaults(
        steps=1,
        noise_level=0,
        max_noise_level=KNOTS[-1],
        tile=LARGEST_TILE,
        overlap=1,
        decoder_context=context,
        consistency="temporal,propagation,fusion",
        first_estimate_share=FIRST_ESTIMATE_SHARE,
        trust=TRUST,
    )
    manifest = Manifest(name=NAME, family="video_ldm", licence="Apache-2.0", defaults=defaults)
    schedule = scheduler_config(system.schedule)
    parts = UpscalerParts(
        unet=system.unet,
        autoencoder=system.autoencoder,
        text=system.words,
        schedule={"_class_name": "DDIMScheduler", **schedule},
        low_res_schedule={"_class_name": "DDPMScheduler", **schedule},
    )
    save_upscaler(target, parts, manifest)
    return target


def export_upscaler(model: UpscalerModel, target: Path, *, base: str, frames: int) -> Path:
    """Write an upscaler that was trained from another as a model folder; return the folder.

    Args:
        model: with its trained layers.
        target: folder to write.
        base: name or folder of the model that it was trained from, for its text encoder.
        frames: of the clips that it was trained on: they are denoised together.
    """
    decoder, text = model.autoencoder, model.text
    is_paper_like = model.unet.family == UPSCALE_A_VIDEO.family
    given = UPSCALE_A_VIDEO.upscaling if is_paper_like else model.defaults
    manifest = Manifest(
        name=target.absolute().parent.name,
        family=model.unet.family,
        licence=model.licence,
        scale=model.scale,
        prediction_type=str(model.schedule.get("prediction_type", "epsilon")),
        defaults=replace(given, window=frames, overlap=min(given.overlap, frames - 1)),
    )
    parts = UpscalerParts(
        unet=model.unet,
        autoencoder=decoder,
        text=text if isinstance(text, WordEncoder) else ModelFolder(find_folder(base)),
        schedule=model.schedule,
        low_res_schedule=model.low_res_schedule,
    )
    save_upscaler(target, parts, manifest)
    return target


def export_image(model: ImageModel, text: TrainableText, target: Path) -> Path:
    """Write an image model that was trained from another as a model folder; return the folder.

    Diffusers reads it too where it has CLIP's text encoder.

    Args:
        model: with its trained U-Net; its folder gives what was not trained.
        text: what embedded its prompts in training.
        target: folder to write.
    """
    base = ModelFolder(model.root)
    manifest = Manifest(
        name=target.absolute().parent.name,
        family="image",
        licence=model.licence,
        job="image",
        scale=model.scale,
        prediction_type=str(model.schedule.get("prediction_type", "epsilon")),
        defaults=ImageDefaults(translation_guidance=model.defaults.translation_guidance),
    )
    with FolderWriter(target) as writer:
        write_unet(writer, model.unet, torch.float16)
        write_decoder(writer, model.autoencoder, torch.float16)
        words = model.text if isinstance(model.text, WordEncoder) else base
        write_text(writer, words, torch.float16, tuned=text.encoder.state_dict())
        writer.write_json(f"scheduler/{SCHEDULE}", model.schedule)
        if base.has("layout"):
            writer.copy(base.path("layout"), "layout")
        writer.finish(manifest)
    return target


def scheduler_config(schedule: Schedule) -> dict[str, object]:
    """Return the fields of a diffusers scheduler configuration."""
    return {
        "num_train_timesteps": schedule.num_train_timesteps,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": schedule.beta_schedule,
        "prediction_type": schedule.prediction_type,
        "timestep_spacing": schedule.timestep_spacing,
        "steps_offset": schedule.steps_offset,
        "set_alpha_to_one": schedule.set_alpha_to_one,
        "rescale_betas_zero_snr": schedule.rescale_betas_zero_snr,
        "blind_start": schedule.blind_start,
        "clip_sample": False,
    }


def warm_start_(system: EmbeddedUpscaler, name_or_path: str) -> None:
    """Fill the system with the weights of a model folder, in place.

    Blocks that the folder's decoder lacks begin as the identity.

    Raises:
        ModelError: there is no such model, or its topology differs.
    """
    model = load_upscaler(name_or_path, torch.device("cpu"), torch.float32)
    assert isinstance(model.autoencoder, TinyAutoencoder)
    system.unet.spatial.load_state_dict(model.unet.spatial.state_dict())
    system.unet.load_temporal_(model.unet.temporal_state(), model.unet.temporal_config())
    system.autoencoder.begin_from_(model.autoencoder)
    system.words.load_state_dict(model.text.state_dict())  # type: ignore[union-attr]
