"""The recipe of the driving model: render, autoencoder, image model, layers for time, folder.

Blattmann et al. 2023, arXiv:2304.08818: the image model learns first and stays as it is; key
frames, frames between and decoder learn their temporal layers, each for itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from legato.device import choose_device, keep_freed_memory
from legato.errors import InputError
from legato.evaluation.lpips import PerceptualDistance, load_lpips
from legato.models.inflate import VideoModel
from legato.training.batches import unit_range
from legato.training.correction_stage import CorrectionTask
from legato.training.driving.clips import (
    KEY_FRAMES,
    BatchOptions,
    PackedClips,
    frames_between,
    is_current,
    layout_of,
    pack_clips,
    save_array,
)
from legato.training.driving.export import export_driving, load_driving
from legato.training.driving.model import DrivingModel, DrivingSystem, build_driving
from legato.training.driving.options import DrivingOptions, DrivingRecipe, DrivingStage
from legato.training.driving.stages import AutoencoderTask, ImageTask
from legato.training.generator_stages import DecoderTask, DenoisingTask, VideoLdm
from legato.training.losses import PixelLoss
from legato.training.run_record import begin_run
from legato.training.trainer import Batch, Task, moved, train

CROP = 64
"""Rows and columns that autoencoder and decoder learn from."""
CLIPS, HELD_BACK = "clips", "held_back"
"""Folders of what is rendered."""
VALIDATED_CLIPS = 16
LATENT_ROUNDING = 0.02
"""Of latents, whose standard deviation is 1, in half precision and between devices."""
Batches = Callable[[int], Iterator[Batch]]


def train_driving(
    options: DrivingOptions, *, log: Callable[[str], None] = lambda line: None
) -> Path:
    """Render, train the stages in order and export a model folder; return it.

    Raises:
        InputError: the folder cannot be written, or layers would no longer be told what they see.
        ModelError: the LPIPS weights or the model to start from cannot be read.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    device = choose_device("auto")
    distance = load_lpips(options.lpips_weights, device) if options.lpips_weights else None
    recipe = options.recipe()
    system = (
        load_driving(options.warm_start)
        if options.warm_start
        else DrivingSystem(image=build_driving())
    )
    if options.warm_start and system.size != recipe.clips.size:
        sizes = ("x".join(map(str, size)) for size in (system.size, recipe.clips.size))
        log("{} was made for {} pixels and goes on at {}".format(options.warm_start, *sizes))
    system.resize_(recipe.clips.size)
    _require_told(system, recipe, options)
    system.image.to(device)
    begin_run("driving", options, log)
    log(f"rendering {recipe.clips.clips} clips")
    pack_clips(options.out / CLIPS, recipe.clips)
    pack_clips(options.out / HELD_BACK, recipe.held_back)
    for name in options.stages:
        log(f"stage {name}")
        if not run_stage(system, name, recipe, distance, options, log):
            log("time is up; the same command goes on")
            break
    return export_driving(system, options.out / "model")


def run_stage(
    system: DrivingSystem,
    name: DrivingStage,
    recipe: DrivingRecipe,
    distance: PerceptualDistance | None,
    options: DrivingOptions,
    log: Callable[[str], None],
) -> bool:
    """Run or continue a stage; return whether it is finished."""
    learning, held_back = (PackedClips(options.out / part) for part in (CLIPS, HELD_BACK))
    device = system.image.device
    if name not in ("autoencoder", "decoder"):
        for clips in (learning, held_back):
            encode_clips(system.image, clips)
    match name:
        case "autoencoder":
            task: Task = AutoencoderTask(
                system.image, distance, pictures(held_back), recipe.autoencoder
            )
        case "image":
            task = ImageTask(system.image, held_back_pictures(held_back))
        case "key_frames":
            ldm = _inflated(system, system.begin_key_frames_(recipe.told))
            task = DenoisingTask(ldm, _on(device, _key_clips(held_back)), recipe.denoising)
            system.prior = recipe.denoising.prior
        case "interpolation":
            ldm = _inflated(system, system.begin_interpolation_(recipe.told))
            task = CorrectionTask(ldm, _on(device, _between(held_back)), recipe.correction)
        case "decoder":
            decoder = system.begin_decoder_().to(device)
            truth = _on(device, moving(held_back))
            task = DecoderTask(decoder, PixelLoss(recipe.pixels, distance), truth, recipe.decoder)
    finished = train(
        task,
        _batches(learning, name, recipe),
        recipe.trainers[name],
        folder=options.out / name,
        max_minutes=options.max_minutes,
        log=log,
    )
    if name == "autoencoder" and recipe.autoencoder.trains_encoder:
        set_latent_scale_(system.image, held_back)
    return finished


def _require_told(system: DrivingSystem, recipe: DrivingRecipe, options: DrivingOptions) -> None:
    """Refuse to teach layers that see a fact of clips among which it never differs.

    Raises:
        InputError: names the option that is missing.
    """
    layers = [model for model in (system.key_frames, system.interpolation) if model is not None]
    for name, is_told in asdict(recipe.told).items():
        if not is_told and any(getattr(model.options, name, False) for model in layers):
            flag = name.replace("_", "-")
            raise InputError(
                f"--warm-start {options.warm_start}",
                why=f"its layers have {name}=True, and would forget what that is for",
                fix=f"give --{flag} too",
            )


def _inflated(system: DrivingSystem, unet: VideoModel) -> VideoLdm:
    image = system.image
    return VideoLdm(unet, system.autoencoder, image.words, image.schedule).to(image.device)


def _batches(learning: PackedClips, name: DrivingStage, recipe: DrivingRecipe) -> Batches:
    """Return what yields a stage's batches from a step on."""
    size, seed = recipe.batch_sizes[name], recipe.trainers[name].seed
    options = BatchOptions(batch_size=size, seed=seed)
    crops = {"batch_size": size, "size": CROP, "seed": seed}
    kinds: dict[DrivingStage, Batches] = {
        "autoencoder": lambda step: learning.crops(step, **crops),
        "image": lambda step: learning.pictures(step, options),
        "key_frames": lambda step: learning.key_frames(step, options),
        "interpolation": lambda step: learning.between(step, options),
        "decoder": lambda step: learning.moving(step, **crops),
    }
    return kinds[name]


def _on(device: torch.device, batches: list[Batch]) -> list[Batch]:
    return [moved(batch, device) for batch in batches]


@torch.no_grad()
def set_latent_scale_(model: DrivingModel, clips: PackedClips) -> None:
    """Set the autoencoder's `scaling_factor` to 1 / standard deviation of the latents."""
    model.vae.register_to_config(scaling_factor=1.0)
    frames = unit_range(pictures(clips)["frames"])
    latents = torch.cat([model.encode(part.to(model.device)) for part in torch.split(frames, 16)])
    model.vae.register_to_config(scaling_factor=1 / latents.std().item())


def encode_clips(model: DrivingModel, clips: PackedClips) -> None:
    """Write the mean latents of packed clips as `latents.npy`, float16, unless they are there.

    Those of an encoder that has learned since then are made anew.
    """
    path = clips.folder / "latents.npy"
    if not is_current(path, _encoded(model, clips.frames[0]), rounding=LATENT_ROUNDING):
        save_array(path, np.stack([_encoded(model, clip) for clip in clips.frames]))


@torch.no_grad()
def _encoded(model: DrivingModel, clip: np.ndarray) -> np.ndarray:
    frames = unit_range(torch.from_numpy(clip.transpose(0, 3, 1, 2).copy()))
    return model.encode(frames.to(model.device)).cpu().numpy().astype(np.float16)


def pictures(clips: PackedClips) -> Batch:
    """Return the first key frame of every clip as one batch."""
    return {"frames": torch.from_numpy(clips.frames[:, 0].transpose(0, 3, 1, 2).copy())}


def held_back_pictures(clips: PackedClips) -> Batch:
    """Return latents, words and layout of the first key frames as one batch."""
    latents = torch.from_numpy(clips.latents[:, 0].astype(np.float32))
    rows, columns = latents.shape[-2:]
    return {
        "latents": latents,
        "words": torch.from_numpy(clips.words.astype(np.int64)),
        "layout": torch.stack([layout_of(b[0], rows, columns) for b in clips.boxes]),
    }


def _key_clips(clips: PackedClips) -> list[Batch]:
    return _fours(clips, [np.arange(KEY_FRAMES)] * VALIDATED_CLIPS, clips.rates)


def _between(clips: PackedClips) -> list[Batch]:
    batches = []
    for stage in (0, 1):
        chosen = [frames_between(places, stage) for places in clips.places[:VALIDATED_CLIPS]]
        for batch in _fours(clips, chosen, clips.rates_between(stage)):
            told = torch.full((len(batch["latents"]),), stage)
            batches.append(batch | {"stage": told})
    return batches


def _fours(clips: PackedClips, frames: list[np.ndarray], rates: np.ndarray) -> list[Batch]:
    """Return the chosen frames of each of the first clips, four clips to a batch."""
    latents = [
        torch.from_numpy(clip[chosen].astype(np.float32))
        for clip, chosen in zip(clips.latents, frames, strict=False)
    ]
    words = torch.from_numpy(clips.words[: len(latents)].astype(np.int64))
    rate = torch.from_numpy(rates[: len(latents)])
    parts = {"latents": torch.stack(latents), "words": words, "frame_rate": rate}
    return [
        {name: part[k : k + 4] for name, part in parts.items()} for k in range(0, len(latents), 4)
    ]


def moving(clips: PackedClips) -> list[Batch]:
    """Return whole frames of the first stage, a clip to a batch."""
    chosen = [
        clips.frames[k, frames_between(clips.places[k], 0)]
        for k in range(min(VALIDATED_CLIPS, len(clips.frames)))
    ]
    return [
        {"frames": torch.from_numpy(rearrange(clip, "t h w c -> 1 t c h w").copy())}
        for clip in chosen
    ]
