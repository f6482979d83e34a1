"""The recipe of Upscale-A-Video for any x4 upscaler in diffusers layout, on any number of GPUs.

Stages, crops, frames, batch and rate of the U-Net are the paper's (Zhou et al. 2024,
arXiv:2312.06640, section 4.1); what it does not give for the decoder is ours.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState

from legato.errors import InputError
from legato.evaluation.lpips import PerceptualDistance, load_lpips
from legato.models.load import load_upscaler
from legato.models.upscaler import UpscalerModel
from legato.pipelines.limits import all_above_zero, all_within, in_order, none_empty
from legato.training.batches import clean_flow
from legato.training.export import export_upscaler
from legato.training.run_record import begin_run, beginning
from legato.training.shard_batches import ShardBatchOptions, ShardSamples, Share, numbered_batches
from legato.training.shards import Shards
from legato.training.trainer import Batch, Clock, Log, TrainerOptions, silent, train
from legato.training.upscaler_stages import (
    DecoderStage,
    DecoderStageOptions,
    LayersName,
    UnetStage,
    with_temporal_layers,
)

UpscalerStageName = Literal["unet", "refine", "decoder"]
HELD_BACK_SEED = 12345
SMALLEST_FOR_LPIPS = 64


@dataclass(frozen=True, kw_only=True)
class UpscalerRecipe:
    """One stage: how long, and on what."""

    trainer: TrainerOptions
    batch: ShardBatchOptions
    decoder: DecoderStageOptions = field(default_factory=DecoderStageOptions)
    """Of the decoder's stage only."""


def upscale_a_video() -> dict[UpscalerStageName, UpscalerRecipe]:
    """Return the stages, in order: all clips; the best clips only; the decoder."""
    paper = TrainerOptions(steps=70_000, learning_rate=1e-4, ema_decay=0.9999)
    return {
        "unet": UpscalerRecipe(trainer=paper, batch=ShardBatchOptions()),
        "refine": UpscalerRecipe(
            trainer=replace(paper, steps=10_000), batch=ShardBatchOptions(seed=1)
        ),
        "decoder": UpscalerRecipe(
            trainer=TrainerOptions(steps=20_000, learning_rate=5e-5),
            batch=ShardBatchOptions(batch_size=32, seed=2),
        ),
    }


@dataclass(frozen=True, kw_only=True)
class TrainUpscalerOptions:
    """`legato train upscale_a_video`: teach an image upscaler about time, as the paper did.

    Under `accelerate launch` on as many GPUs as it is told; the same command goes on.
    """

    data: tuple[Path, ...]
    """Folders of shards, with captions or without, mixed clip by clip; see `legato train shards`.
    One that is named twice is drawn twice as often."""
    held_back: Path
    """Folder of shards of other videos, for validation."""
    model: str = "sd-x4-upscaler"
    """What to start from: a name or folder of an x4 upscaler in diffusers layout. Temporal layers
    that it has are trained on."""
    layers: LayersName | None = None
    """Temporal layers of the U-Net: upscale_a_video, or video_ldm, those of Video LDM's upsampler;
    None: what the model has, or upscale_a_video."""
    refine_data: tuple[Path, ...] = ()
    """Folders of shards for the stage refine: the sharpest, without watermarks. None: `data`."""
    out: Path = Path("runs/upscale_a_video")
    """Folder of checkpoints, logs, picture grids and the exported model."""
    stages: tuple[UpscalerStageName, ...] = ("unet", "refine", "decoder")
    """Stages to run, in this order; a finished one that is found in `out` is not run again. Name it
    all the same: later ones go on from it."""
    steps: int | None = None
    """Steps of every stage instead of the recipe's."""
    batch_size: int | None = None
    """Clips of a step over all GPUs instead of the recipe's; gradients are accumulated."""
    learning_rate: float | None = None
    """Peak rate of every stage instead of the recipe's."""
    frames: int = 8
    """Frames of a clip."""
    size: int = 320
    """Rows and columns of the clean crops."""
    clips_at_once: int = 1
    """Clips that one GPU holds."""
    gradient_checkpointing: bool = True
    """Compute activations twice instead of keeping them."""
    num_workers: int = 8
    """Processes beside each GPU that read and damage clips."""
    validate_every: int = 500
    """Steps between validations, each with a checkpoint."""
    latent_steps: int = 20
    """Denoising steps that give the decoder its latents."""
    adversarial_start: int = 5000
    """First step of the decoder's stage with the discriminator."""
    lpips_weights: Path | None = None
    """LPIPS weights (SqueezeNet, safetensors); None: the decoder learns from L1 and the
    discriminator only."""
    max_minutes: float | None = None
    """Stop after this long, with a checkpoint; the same command goes on."""

    def __post_init__(self) -> None:
        none_empty(self, ("data", "stages"))
        in_order(self, "stages")
        counts = ("steps", "batch_size", "clips_at_once", "validate_every", "latent_steps")
        all_within(self, counts, 1)
        all_within(self, ("num_workers", "max_minutes", "adversarial_start"), 0)
        all_above_zero(self, ("learning_rate",))
        if self.lpips_weights is not None and self.size < SMALLEST_FOR_LPIPS:
            raise InputError(
                f"size={self.size}",
                why=f"LPIPS needs crops of {SMALLEST_FOR_LPIPS} pixels, for it reduces some",
                fix="use larger crops, or no --lpips-weights",
            )

    def sets(self, name: UpscalerStageName) -> tuple[Path, ...]:
        """Return the folders of shards that a stage learns from."""
        return self.refine_data if name == "refine" and self.refine_data else self.data

    def recipe(self, name: UpscalerStageName) -> UpscalerRecipe:
        """Return a stage's recipe with what was asked for."""
        found = upscale_a_video()[name]
        size = self.batch_size or found.batch.batch_size
        return UpscalerRecipe(
            trainer=replace(
                found.trainer,
                steps=self.steps or found.trainer.steps,
                learning_rate=self.learning_rate or found.trainer.learning_rate,
                validate_every=self.validate_every,
            ),
            batch=replace(found.batch, batch_size=size, frames=self.frames, size=self.size),
            decoder=replace(
                found.decoder,
                latent_steps=self.latent_steps,
                adversarial_start=self.adversarial_start,
            ),
        )


def train_upscale_a_video(options: TrainUpscalerOptions, *, log: Log = lambda line: None) -> Path:
    """Train the stages in order and export a model folder; return it.

    Raises:
        InputError: there are no clips, or they are too small, or the batch cannot be shared.
        ModelError: there is no such model, or its autoencoder is not one of diffusers.
    """
    clock, here = Clock(options.max_minutes), PartialState(cpu=not torch.cuda.is_available())
    say = log if here.is_main_process else silent
    base = load_upscaler(options.model, here.device, torch.float32)
    with beginning(options.out), torch.random.fork_rng(devices=[]):
        begin_run("upscale_a_video", options, say)
        inputs = _inputs(options)  # of all stages, before the first one learns
        torch.manual_seed(0)  # every process begins with the same fresh layers
        model = with_temporal_layers(
            base, layers=options.layers, checkpointing=options.gradient_checkpointing
        )
        distance = None
        if options.lpips_weights is not None:
            distance = load_lpips(options.lpips_weights, here.device)
        for name in options.stages:
            say(f"stage {name}")
            rest = replace(options, max_minutes=clock.left)
            if not (
                clock.allows(options.out / name)
                and _run_stage(model, name, rest, inputs, distance, say)
            ):
                say("time is up; the same command goes on")
                break
    target = options.out / "model"
    if here.is_main_process:
        export_upscaler(model, target, base=options.model, frames=options.frames)
    here.wait_for_everyone()
    return target


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What the stages learn from, and how this process shares it."""

    samples: dict[UpscalerStageName, ShardSamples]
    held_back: list[Batch]
    share: Share


def _inputs(options: TrainUpscalerOptions) -> _Inputs:
    """Open what all stages need.

    Raises:
        InputError: there are no clips, or they are too small, or a batch cannot be shared.
    """
    here, batches = PartialState(), {name: options.recipe(name).batch for name in options.stages}
    share = Share(
        process=here.process_index,
        num_processes=here.num_processes,
        clips_at_once=options.clips_at_once,
        num_workers=options.num_workers,
    )
    opened = {sets: Shards(sets) for sets in map(options.sets, options.stages)}
    samples = {name: ShardSamples(opened[options.sets(name)], b) for name, b in batches.items()}
    for name, batch in batches.items():
        share.accumulation(batch.batch_size)
        samples[name][0]  # clips that are too small are refused here and now
    held_back = _held_back(options.held_back, batches[options.stages[0]])
    return _Inputs(samples=samples, held_back=held_back, share=share)


def _run_stage(
    model: UpscalerModel,
    name: UpscalerStageName,
    options: TrainUpscalerOptions,
    inputs: _Inputs,
    distance: PerceptualDistance | None,
    log: Log,
) -> bool:
    recipe, share, held_back = options.recipe(name), inputs.share, inputs.held_back
    trainer = replace(recipe.trainer, accumulation=share.accumulation(recipe.batch.batch_size))
    samples = inputs.samples[name]
    task = (
        DecoderStage(
            model,
            held_back,
            distance,
            recipe.batch.seed,
            batch_size=recipe.batch.batch_size,
            options=recipe.decoder,
        )
        if name == "decoder"
        else UnetStage(model, held_back, distance, recipe.batch.seed)
    )
    return train(
        task,
        lambda step: numbered_batches(samples, recipe.batch.batch_size, share, step, log=log),
        trainer,
        folder=options.out / name,
        max_minutes=options.max_minutes,
        log=log,
    )


def _held_back(root: Path, options: ShardBatchOptions) -> list[Batch]:
    """Return up to eight clips, one to a batch, the same in every validation of every stage."""
    shards = Shards((root,))
    samples = ShardSamples(shards, replace(options, seed=HELD_BACK_SEED))
    batches = []
    for number in range(min(8, len(shards))):
        one = samples[number]
        tensors = {"frames": one["frames"], "low_res": one["low_res"]} | clean_flow(one["frames"])
        batch: Batch = {key: value[None] for key, value in tensors.items()}
        batches.append(batch | {"caption": [one["caption"]], "number": torch.tensor([number])})
    return batches
