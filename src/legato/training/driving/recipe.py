"""The recipe of the driving image model: render, autoencoder, latents, U-Net, folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from legato.device import keep_freed_memory
from legato.evaluation.lpips import PerceptualDistance, load_lpips
from legato.training.batches import unit_range
from legato.training.driving.data import (
    HELD_BACK_FROM,
    FrameOptions,
    LatentOptions,
    PackedFrames,
    layout_of,
    pack_frames,
)
from legato.training.driving.export import export_driving
from legato.training.driving.model import DrivingModel, build_driving
from legato.training.driving.stages import AutoencoderOptions, AutoencoderTask, ImageTask
from legato.training.trainer import Batch, Task, TrainerOptions, train

DrivingStage = Literal["autoencoder", "image"]
CROP = 64
"""Rows and columns that the autoencoder learns from."""
FRAMES = "frames"
HELD_BACK = "held_back"


@dataclass(frozen=True, kw_only=True)
class DrivingRecipe:
    """How the image model is trained."""

    frames: FrameOptions = field(default_factory=FrameOptions)
    held_back: FrameOptions = field(
        default_factory=lambda: FrameOptions(
            frames=96, frames_per_world=1, first_seed=HELD_BACK_FROM
        )
    )
    autoencoder: TrainerOptions = field(
        default_factory=lambda: TrainerOptions(
            steps=1600, learning_rate=8e-4, validate_every=200, ema_decay=0.995
        )
    )
    autoencoder_batch: int = 8
    weights: AutoencoderOptions = field(default_factory=AutoencoderOptions)
    image: TrainerOptions = field(
        default_factory=lambda: TrainerOptions(
            steps=10000, learning_rate=4e-4, validate_every=400, ema_decay=0.998
        )
    )
    latents: LatentOptions = field(default_factory=LatentOptions)


@dataclass(frozen=True, kw_only=True)
class DrivingOptions:
    """`legato train driving`: render a driving world and train the image model of it."""

    out: Path = Path("runs/driving")
    """Folder of rendered frames, checkpoints, logs, picture grids and the exported model."""
    stages: tuple[DrivingStage, ...] = ("autoencoder", "image")
    """Stages to run, in order; a finished stage found in `out` is not run again."""
    frames: int | None = None
    """Frames to render instead of the recipe's number."""
    steps: int | None = None
    """Steps of every stage instead of the recipe's."""
    max_minutes: float | None = None
    """Stop a stage after this long, with a checkpoint; the same command goes on."""
    lpips_weights: Path | None = None
    """LPIPS weights (SqueezeNet, safetensors); without: L1 and the discriminator only."""

    def recipe(self) -> DrivingRecipe:
        """Return the recipe with the numbers that were chosen."""
        recipe = DrivingRecipe()
        if self.frames is not None:
            recipe = replace(recipe, frames=replace(recipe.frames, frames=self.frames))
        if self.steps is not None:
            short = {
                name: replace(trainer, steps=self.steps)
                for name, trainer in (("autoencoder", recipe.autoencoder), ("image", recipe.image))
            }
            recipe = replace(recipe, **short)  # type: ignore[arg-type]
        return recipe


def train_driving(
    options: DrivingOptions, *, log: Callable[[str], None] = lambda line: None
) -> Path:
    """Render, train the stages in order and export a model folder; return it.

    Raises:
        ModelError: the LPIPS weights cannot be read.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    distance = load_lpips(options.lpips_weights) if options.lpips_weights else None
    recipe = options.recipe()
    log(f"rendering {recipe.frames.frames} frames")
    pack_frames(options.out / FRAMES, recipe.frames)
    pack_frames(options.out / HELD_BACK, recipe.held_back)
    model = build_driving()
    for name in options.stages:
        log(f"stage {name}")
        if not run_stage(model, name, recipe, distance, options, log):
            log("time is up; the same command goes on")
            break
    return export_driving(model, options.out / "model")


def run_stage(
    model: DrivingModel,
    name: DrivingStage,
    recipe: DrivingRecipe,
    distance: PerceptualDistance | None,
    options: DrivingOptions,
    log: Callable[[str], None],
) -> bool:
    """Run or continue a stage; return whether it is finished."""
    learning, held_back = (PackedFrames(options.out / part) for part in (FRAMES, HELD_BACK))
    task: Task
    if name == "autoencoder":
        task = AutoencoderTask(model, distance, whole_frames(held_back), recipe.weights)
        trainer = recipe.autoencoder

        def batches(step: int) -> Iterator[Batch]:
            return learning.crops(
                step, batch_size=recipe.autoencoder_batch, size=CROP, seed=trainer.seed
            )
    else:
        encode_frames(model, learning)
        task = ImageTask(model, held_back_latents(model, held_back))
        trainer = recipe.image

        def batches(step: int) -> Iterator[Batch]:
            return learning.latents(step, recipe.latents)

    folder = options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    finished = train(
        task, batches, trainer, folder=folder, max_minutes=options.max_minutes, log=log
    )
    if name == "autoencoder":
        set_latent_scale_(model, held_back)
    return finished


def whole_frames(packed: PackedFrames) -> Batch:
    """Return all frames as one batch."""
    return {"frames": torch.from_numpy(packed.frames.transpose(0, 3, 1, 2).copy())}


@torch.no_grad()
def set_latent_scale_(model: DrivingModel, packed: PackedFrames) -> None:
    """Set the autoencoder's `scaling_factor` to 1 / standard deviation of the latents."""
    model.vae.register_to_config(scaling_factor=1.0)
    frames = unit_range(whole_frames(packed)["frames"])
    latents = torch.cat([model.encode(part) for part in torch.split(frames, 16)])
    model.vae.register_to_config(scaling_factor=1 / latents.std().item())


@torch.no_grad()
def encode_frames(model: DrivingModel, packed: PackedFrames) -> None:
    """Write the mean latents of packed frames as `latents.npy`, float16, unless they are there."""
    path = packed.folder / "latents.npy"
    if path.exists():
        return
    parts = []
    for first in range(0, len(packed.frames), 32):
        frames = packed.frames[first : first + 32].transpose(0, 3, 1, 2)
        latents = model.encode(unit_range(torch.from_numpy(frames.copy())))
        parts.append(latents.numpy().astype(np.float16))
    np.save(path, np.concatenate(parts))


def held_back_latents(model: DrivingModel, packed: PackedFrames) -> Batch:
    """Return latents, words and layout of all packed frames as one batch."""
    encode_frames(model, packed)
    latents = torch.from_numpy(np.load(packed.folder / "latents.npy").astype(np.float32))
    rows, columns = latents.shape[-2:]
    return {
        "latents": latents,
        "words": torch.from_numpy(packed.words.astype(np.int64)),
        "layout": torch.stack([layout_of(b, rows, columns) for b in packed.boxes]),
    }
