"""Recipes: complete options of what is trained and shipped, and the commands that repeat it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from legato.device import choose_device, keep_freed_memory
from legato.diffusion.schedule import Schedule
from legato.errors import InputError
from legato.evaluation.lpips import PerceptualDistance, load_lpips
from legato.models.inflate import inflate
from legato.models.text import WordEncoder
from legato.models.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from legato.pipelines.limits import all_above_zero, all_within, in_order, none_empty
from legato.training.batches import BatchOptions, batches, sample
from legato.training.data import CROP, PackedClips, PackOptions, pack
from legato.training.export import export_embedded, warm_start_
from legato.training.level_stage import LevelTask
from legato.training.losses import PixelLoss, PixelLossWeights
from legato.training.refining_stage import RefiningOptions, RefiningTask
from legato.training.run_record import begin_run, beginning
from legato.training.stages import (
    AutoencoderTask,
    EmbeddedUpscaler,
    StageName,
    StageOptions,
    UpscaleTask,
    latent_scale,
)
from legato.training.trainer import Batch, Clock, Task, TrainerOptions, train

TEXT_WIDTH = 64
UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 7,
    "out_channels": 4,
    "block_out_channels": (32, 64, 128, 160),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": (1, 2, 2, 2),
    "num_class_embeds": 1000,
    "norm_num_groups": 16,
}
TEMPORAL: dict[str, Any] = {
    "positions": "rope",
    "ff_in": False,
    "cross_attention": False,
    "ff_multiple": 2,
    "initial_mix": 0.0,
}
SCHEDULE = Schedule(timestep_spacing="refining", set_alpha_to_one=True, blind_start=True)
CELL_PX = 32
"""Pixels of a crop, each way, that are one cell at the U-Net's lowest level."""
HELD_BACK_EVERY = 12
"""Every twelfth source is kept for validation."""


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """One stage: how long, on what, with which weights."""

    trainer: TrainerOptions
    batch: BatchOptions
    weights: PixelLossWeights = field(default_factory=PixelLossWeights)
    options: StageOptions = field(default_factory=StageOptions)


def embedded() -> dict[StageName, StageRecipe]:
    """Return the stages of `embedded-x4`, in order."""
    image = BatchOptions(batch_size=8, frames=1, size=128)
    clips = BatchOptions(batch_size=4, frames=3, size=128, flow=True)
    return {
        "autoencoder": StageRecipe(
            trainer=TrainerOptions(steps=1600, learning_rate=6e-4), batch=image
        ),
        "image": StageRecipe(trainer=TrainerOptions(steps=5000, learning_rate=5e-4), batch=image),
        "temporal": StageRecipe(
            trainer=TrainerOptions(steps=4000, learning_rate=3e-4), batch=clips
        ),
        "decoder": StageRecipe(trainer=TrainerOptions(steps=400, learning_rate=1e-4), batch=clips),
        "refining": StageRecipe(
            trainer=TrainerOptions(steps=1500, learning_rate=1e-4, warm_up=20, ema_decay=0.99),
            batch=replace(clips, measured_share=0.9, second_order_share=0.0, word_dropout=0.6),
            weights=PixelLossWeights(perceptual=2.4),
        ),
        "levels": StageRecipe(
            trainer=TrainerOptions(steps=800, learning_rate=2e-2, warm_up=20, ema_decay=0.98),
            batch=replace(clips, measured_share=0.8, second_order_share=0.06, word_dropout=0.6),
        ),
    }


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """`legato train embedded`: repeat the shipped recipe, or go on from shipped weights."""

    data: tuple[Path, ...]
    """Folders of videos and photographs."""
    out: Path = Path("runs/embedded")
    """Folder of checkpoints, logs, picture grids and the exported model."""
    stages: tuple[StageName, ...] = (
        "autoencoder",
        "image",
        "temporal",
        "decoder",
        "refining",
        "levels",
    )
    """Stages to run, in this order; a finished one that is found in `out` is not run again. Name it
    all the same: later ones go on from it."""
    steps: int | None = None
    """Steps of every stage instead of the recipe's."""
    warm_start: str | None = None
    """Model to start from instead of random numbers: a name such as embedded-x4, or a folder."""
    max_minutes: float | None = None
    """Stop after this long, with a checkpoint; the same command goes on."""
    max_mb: float = 1500.0
    """Largest size of the packed training data."""
    lpips_weights: Path | None = None
    """LPIPS weights (SqueezeNet, safetensors); without: L1, spectral and lattice losses only."""
    exclude: tuple[str, ...] = ()
    """Sources left out: beginnings of file names."""
    num_workers: int = 1
    """Processes beside the training that read and damage clips."""
    batch_scale: int = 1
    """The recipe's batches, which suit a CPU, grow by this factor; 12 keeps a large GPU busy."""
    crop: int = 128
    """Rows and columns to learn from: a multiple of 32 up to 320. From 192 on the attention has
    more to compare; the shipped weights ended on 256."""

    def __post_init__(self) -> None:
        none_empty(self, ("data", "stages"))
        in_order(self, "stages")
        all_within(self, ("steps", "batch_scale"), 1)
        all_within(self, ("max_minutes",), 0)
        all_above_zero(self, ("max_mb",))
        if self.crop % CELL_PX or not CELL_PX <= self.crop <= CROP:
            raise InputError(
                f"crop={self.crop}",
                why=f"the network divides crops by {CELL_PX}, and packed clips have {CROP} pixels",
                fix="use 128, 192 or 256",
            )
        if self.num_workers < 1:
            raise InputError(
                f"num_workers={self.num_workers}",
                why="somebody has to read and damage the clips",
                fix="use 1 or more",
            )

    def recipe(self, stage: StageName) -> StageRecipe:
        """Return a stage of the recipe with the numbers that were chosen."""
        chosen = embedded()[stage]
        size = chosen.batch.batch_size * self.batch_scale
        batch = replace(chosen.batch, batch_size=size, size=self.crop)
        steps = chosen.trainer.steps if self.steps is None else self.steps
        return replace(chosen, batch=batch, trainer=replace(chosen.trainer, steps=steps))


def build_embedded(schedule: Schedule = SCHEDULE) -> EmbeddedUpscaler:
    """Return the embedded upscaler with fresh weights from torch's current seed."""
    unet = UNet2DConditionModel(**UNET)
    autoencoder = TinyAutoencoder(TinyAutoencoderConfig())
    for image_model in (unet, autoencoder):
        image_model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    unet_in_time = inflate(unet, "video_ldm", **TEMPORAL)
    return EmbeddedUpscaler(unet_in_time, autoencoder, WordEncoder(TEXT_WIDTH), schedule)


def train_embedded(
    options: TrainOptions, *, log: Callable[[str], None] = lambda line: None
) -> Path:
    """Train the stages in order and export a model folder; return it.

    Raises:
        InputError: the data folders hold nothing to learn from, or `out` cannot be written.
        ModelError: the LPIPS weights or the model to start from cannot be read.
    """
    clock = Clock(options.max_minutes)
    keep_freed_memory()
    torch.manual_seed(0)
    device, system = choose_device("auto"), build_embedded()
    if options.warm_start is not None:
        warm_start_(system, options.warm_start)
    system.to(device)
    distance = load_lpips(options.lpips_weights, device) if options.lpips_weights else None
    with beginning(options.out):
        begin_run("embedded", options, log)
        packed = options.out / "data.pack"
        if not packed.exists():
            log(f"packing {', '.join(map(str, options.data))}")
            kinds = PackOptions(max_mb=options.max_mb, exclude=options.exclude)
            pack(list(options.data), packed, kinds, log=log)
    for name in options.stages:
        log(f"stage {name}")
        rest = replace(options, max_minutes=clock.left)
        if not (
            clock.allows(options.out / name)
            and _run_stage(system, name, options.recipe(name), rest, distance, log)
        ):
            log("time is up; the same command goes on")
            break
    return export_embedded(system, options.out / "model")


def _run_stage(
    system: EmbeddedUpscaler,
    name: StageName,
    recipe: StageRecipe,
    options: TrainOptions,
    distance: PerceptualDistance | None,
    log: Callable[[str], None],
) -> bool:
    packed = options.out / "data.pack"
    learning, held_back = split(PackedClips(packed))
    fixed = [_fixed_batch(packed, held_back, recipe.batch, k) for k in range(8)]
    loss = PixelLoss(recipe.weights, distance)
    match name:
        case "autoencoder":
            task: Task = AutoencoderTask(system, loss, fixed)
        case "refining":
            task = RefiningTask(system, loss, fixed, RefiningOptions(), recipe.options)
        case "levels":
            task = LevelTask(system, loss, fixed, recipe.options)
        case _:
            task = UpscaleTask(system, name, loss, fixed, recipe.options)
    finished = train(
        task,
        lambda step: batches(packed, learning, recipe.batch, step, num_workers=options.num_workers),
        recipe.trainer,
        folder=options.out / name,
        max_minutes=options.max_minutes,
        log=log,
    )
    if isinstance(task, LevelTask):
        task.keep()
    if name == "autoencoder":
        scale = latent_scale(system, fixed)
        system.autoencoder.config = replace(system.autoencoder.config, scaling_factor=scale)
    return finished


def split(packed: PackedClips) -> tuple[list[int], list[int]]:
    """Return the numbers of the clips to learn from and of those held back, by source."""
    sources = packed.sources()
    kept = held_back_names(sources)
    learning = [k for k, name in enumerate(sources) if name not in kept]
    held_back = [k for k, name in enumerate(sources) if name in kept]
    return learning, held_back or learning


def held_back_names(sources: Iterable[str]) -> set[str]:
    """Return the sources, of those that give clips, of which none is learned from."""
    names = sorted(set(sources))
    return set(names[::HELD_BACK_EVERY]) if len(names) >= HELD_BACK_EVERY else set()


def _fixed_batch(packed: Path, clips: list[int], options: BatchOptions, number: int) -> Batch:
    fixed = replace(
        options,
        seed=12345,
        second_order_share=0.0,
        measured_share=0.0,
        foreground_share=0.0,
        surface_share=0.0,
        size=192,
        word_dropout=0.0,
    )
    one = sample(PackedClips(packed), WordEncoder(1), clips, number, fixed)
    device = choose_device("auto")
    return {name: value[None].to(device) for name, value in one.items()}
