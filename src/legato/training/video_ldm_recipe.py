"""`legato train video_ldm`: an image model becomes a Video LDM by captioned clips.

Blattmann et al. 2023, arXiv:2304.08818: temporal layers of key frames learn with the image model
frozen and none, one or two first frames given; those of the frames between go on from these; the
decoder meets a discriminator of clips.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor

from legato.device import keep_freed_memory
from legato.errors import InputError
from legato.evaluation.lpips import PerceptualDistance, load_lpips
from legato.models.image_model import ImageModel, load_image_model
from legato.models.manifest import GeneratorDefaults
from legato.models.trainable_text import TrainableText
from legato.pipelines.limits import all_above_zero, all_within, in_order, none_empty, require_needed
from legato.training.batches import unit_range
from legato.training.captioned_clips import CaptionedClips
from legato.training.clip_samples import ClipSampleOptions, ClipSamples, GeneratorStage
from legato.training.generator_stages import (
    DecoderOptions,
    DecoderTask,
    DenoisingOptions,
    DenoisingTask,
)
from legato.training.generator_system import GeneratorSystem, export_generator
from legato.training.losses import PixelLoss, PixelLossWeights
from legato.training.run_record import begin_run, beginning
from legato.training.shard_batches import Share, numbered_batches
from legato.training.trainer import Batch, Clock, Log, Task, TrainerOptions, silent, train
from legato.training.upscaler_recipes import SMALLEST_FOR_LPIPS

STAGES: tuple[GeneratorStage, ...] = ("key_frames", "interpolation", "decoder")
HELD_BACK_SEED, VALIDATED_CLIPS = 12345, 8


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """How long a stage learns, and from how many clips at a time."""

    trainer: TrainerOptions
    batch_size: int


def video_ldm() -> dict[GeneratorStage, StageRecipe]:
    """Return the stages, in order.

    Steps and clips of key frames are those of the paper's ablation; it gives no others.
    """
    layers = TrainerOptions(steps=60_000, learning_rate=1e-4, ema_decay=0.9999)
    return {
        "key_frames": StageRecipe(trainer=layers, batch_size=36),
        "interpolation": StageRecipe(trainer=replace(layers, steps=30_000), batch_size=36),
        "decoder": StageRecipe(
            trainer=TrainerOptions(steps=20_000, learning_rate=5e-5), batch_size=8
        ),
    }


@dataclass(frozen=True, kw_only=True)
class TrainVideoLdmOptions:
    """`legato train video_ldm`: teach an image model about time, so that it generates videos.

    Under `accelerate launch` on as many GPUs as it is told; the same command goes on.
    """

    data: tuple[Path, ...]
    """Folders of videos or of folders of frames, NAME.txt beside NAME.mp4 or NAME/ being the
    caption, or of shards of clips (`legato train shards`), mixed clip by clip. A video is taken for
    one shot and read from its beginning: cut long ones into shards."""
    held_back: tuple[Path, ...] = ()
    """Such folders that are not learned from, for validation. Default: `data`."""
    model: str = field()
    """What to start from: an installed model, or a folder of Stable Diffusion's 1.x or 2.x layout;
    of a generating model the image model is taken. Tune it on the same clips first, by `legato
    train frames`."""
    prompt: str = ""
    """Stands before every caption."""
    fps: float | None = None
    """Frames per second of the clips instead of what their files say; shards and folders of frames
    say nothing."""
    out: Path = Path("runs/video_ldm")
    """Folder of checkpoints, logs, picture grids and the exported model."""
    stages: tuple[GeneratorStage, ...] = STAGES
    """Stages to run, in this order; a finished one that is found in `out` is not run again. Name it
    all the same: later ones go on from it."""
    width: int | None = None
    """Columns of the frames. Default: the image model's own."""
    height: int | None = None
    """Rows of the frames. Default: the image model's own."""
    frames: int = 8
    """Key frames of a clip."""
    key_frame_rate: float = 1.875
    """Key frames per second."""
    interpolations: int = 2
    """Passes that put three frames between every two, 0 to 2."""
    interpolation_trains_spatial: bool = False
    """Whether the frames between have an image model of their own that learns too, as in the paper;
    the folder then holds two."""
    steps: int | None = None
    """Steps of every stage instead of the recipe's."""
    batch_size: int | None = None
    """Clips of a step over all GPUs instead of the recipe's; gradients are accumulated."""
    learning_rate: float | None = None
    """Peak rate of every stage instead of the recipe's."""
    clips_at_once: int = 1
    """Clips that one GPU holds."""
    text_dropout: float = 0.1
    """Share of clips whose caption is dropped, for guidance."""
    gradient_checkpointing: bool = True
    """Compute activations twice instead of keeping them."""
    num_workers: int = 8
    """Processes beside each GPU that read clips; 0: the training itself."""
    validate_every: int = 500
    """Steps between validations, each with a checkpoint."""
    decoder_crop: int = 256
    """Largest rows and columns of what the decoder learns from."""
    adversarial_start: int = 1000
    """First step of the decoder's stage at which its discriminator counts."""
    lpips_weights: Path | None = None
    """LPIPS weights (SqueezeNet, safetensors); None: the decoder learns from L1 and the
    discriminator only."""
    seed: int = 0
    """Seed of batches, noise and fresh weights."""
    max_minutes: float | None = None
    """Stop after this long, with a checkpoint; the same command goes on."""

    def __post_init__(self) -> None:
        none_empty(self, ("data", "stages"))
        in_order(self, "stages")
        counts = ("steps", "batch_size", "clips_at_once", "validate_every", "width", "height")
        all_within(self, (*counts, "decoder_crop"), 1)
        all_within(self, ("num_workers", "seed", "max_minutes", "adversarial_start"), 0)
        all_within(self, ("text_dropout",), 0, 1)
        all_within(self, ("interpolations",), 0, 2)
        all_within(self, ("frames",), 2)
        all_above_zero(self, ("learning_rate", "fps", "key_frame_rate"))
        if not self.interpolations and "interpolation" in self.stages:
            raise InputError(
                "interpolations=0",
                why="the stage interpolation would learn nothing",
                fix="use 1 or 2, or --stages without it",
            )
        needs = [
            ("interpolation_trains_spatial", "interpolation"),
            ("adversarial_start", "decoder"),
            ("decoder_crop", "decoder"),
            ("lpips_weights", "decoder"),
        ]
        require_needed(self, [(n, f"the stage {of}", of in self.stages) for n, of in needs])

    def recipe(self, name: GeneratorStage) -> StageRecipe:
        """Return a stage's recipe with what was asked for."""
        found = video_ldm()[name]
        steps = self.steps or found.trainer.steps
        trainer = replace(
            found.trainer,
            steps=steps,
            learning_rate=self.learning_rate or found.trainer.learning_rate,
            warm_up=min(found.trainer.warm_up, max(steps // 10, 1)),
            validate_every=self.validate_every,
            seed=self.seed,
        )
        return StageRecipe(trainer=trainer, batch_size=self.batch_size or found.batch_size)


def train_video_ldm(options: TrainVideoLdmOptions, *, log: Log = silent) -> Path:
    """Train the stages in order and export a model folder; return it.

    Raises:
        InputError: there are no clips, or one is too short or without a caption, or a size cannot
            be made.
        ModelError: there is no such image model, or the LPIPS weights cannot be read.
    """
    keep_freed_memory()
    clock, here = Clock(options.max_minutes), PartialState(cpu=not torch.cuda.is_available())
    say = log if here.is_main_process else silent
    image = load_image_model(options.model, here.device, torch.float32)
    text = TrainableText(image.text).to(here.device)
    with beginning(options.out), torch.random.fork_rng(devices=[]):
        begin_run("video_ldm", options, say)
        inputs = _inputs(options, image)  # of all stages, before the first one learns
        system = GeneratorSystem(image=image, text=text)
        for name in options.stages:
            say(f"stage {name}")
            rest = replace(options, max_minutes=clock.left)
            if not (
                clock.allows(options.out / name) and _run_stage(system, name, rest, inputs, say)
            ):
                say("time is up; the same command goes on")
                break
    target = options.out / "model"
    if here.is_main_process:
        export_generator(system, target, _defaults(options, image))
    here.wait_for_everyone()
    return target


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What the stages learn from, and how this process shares it."""

    samples: dict[GeneratorStage, ClipSamples]
    held_back: dict[GeneratorStage, list[Batch]]
    share: Share
    distance: PerceptualDistance | None


def _inputs(options: TrainVideoLdmOptions, image: ImageModel) -> _Inputs:
    """Open and look at what all stages need.

    Raises:
        InputError: a clip, its caption or a size will not do, or a batch cannot be shared.
    """
    here = PartialState()
    share = Share(
        process=here.process_index,
        num_processes=here.num_processes,
        clips_at_once=options.clips_at_once,
        num_workers=options.num_workers,
    )
    for name in options.stages:
        share.accumulation(options.recipe(name).batch_size)
    size = image.size_of(options.width, options.height)
    kinds = {
        name: ClipSampleOptions(
            stage=name,
            size=size,
            crop=options.decoder_crop,
            frames=options.frames,
            key_frame_rate=options.key_frame_rate,
            interpolations=options.interpolations,
            text_dropout=options.text_dropout,
            seed=options.seed * len(STAGES) + STAGES.index(name),
        )
        for name in options.stages
    }
    if "decoder" in kinds:
        _require_fitting_crop(options, kinds["decoder"].cut, image)
    distance = None
    if options.lpips_weights is not None:
        distance = load_lpips(options.lpips_weights, here.device)
    clips = held_back = CaptionedClips(options.data, prompt=options.prompt, fps=options.fps)
    if options.held_back:
        held_back = CaptionedClips(options.held_back, prompt=options.prompt, fps=options.fps)
    for some in {id(some): some for some in (clips, held_back)}.values():
        some.require_captions(image.text)
    validated = {
        name: ClipSamples(held_back, replace(kind, text_dropout=0.0, seed=HELD_BACK_SEED))
        for name, kind in kinds.items()
    }
    return _Inputs(
        samples={name: ClipSamples(clips, kind) for name, kind in kinds.items()},
        held_back={name: some.held_back(VALIDATED_CLIPS) for name, some in validated.items()},
        share=share,
        distance=distance,
    )


def _require_fitting_crop(
    options: TrainVideoLdmOptions, cut: tuple[int, int], image: ImageModel
) -> None:
    """Refuse crops of the decoder that have no latents, or are too small for LPIPS."""
    if options.decoder_crop % image.scale:
        raise InputError(
            f"decoder_crop={options.decoder_crop}",
            why=f"the autoencoder makes a cell of {image.scale} x {image.scale} pixels",
            fix=f"use a multiple of {image.scale}",
        )
    if options.lpips_weights is not None and min(cut) < SMALLEST_FOR_LPIPS:
        raise InputError(
            f"{cut[0]} x {cut[1]} pixels for the decoder",
            why=f"LPIPS needs {SMALLEST_FOR_LPIPS} each way, for it reduces some",
            fix="use larger frames and --decoder-crop, or no --lpips-weights",
        )


def _run_stage(
    system: GeneratorSystem,
    name: GeneratorStage,
    options: TrainVideoLdmOptions,
    inputs: _Inputs,
    log: Log,
) -> bool:
    """Run or continue a stage; return whether it is finished."""
    torch.manual_seed(options.seed)  # whatever ran before, and on every process
    recipe, samples = options.recipe(name), inputs.samples[name]
    share = inputs.share
    task = _task(system, name, options, inputs)

    def batches(step: int) -> Iterator[Batch]:
        for batch in numbered_batches(samples, recipe.batch_size, share, step, log=log):
            yield _encoded(system, name, batch)

    return train(
        task,
        batches,
        replace(recipe.trainer, accumulation=share.accumulation(recipe.batch_size)),
        folder=options.out / name,
        max_minutes=options.max_minutes,
        log=log,
    )


def _task(
    system: GeneratorSystem, name: GeneratorStage, options: TrainVideoLdmOptions, inputs: _Inputs
) -> Task:
    """Return what a stage learns, with its layers on their place."""
    held_back = [_encoded(system, name, batch) for batch in inputs.held_back[name]]
    if name == "decoder":
        decoder = system.begin_decoder_()
        decoder.set_gradient_checkpointing(options.gradient_checkpointing)
        pixels = PixelLoss(PixelLossWeights.plain(perceptual=1.0), inputs.distance)
        judged = DecoderOptions(adversarial_start=options.adversarial_start)
        return DecoderTask(decoder, pixels, held_back, judged)
    learns_frames = name == "interpolation" and options.interpolation_trains_spatial
    unet = (
        system.begin_key_frames_()
        if name == "key_frames"
        else system.begin_interpolation_(own_image_model=learns_frames)
    )
    unet.set_gradient_checkpointing(options.gradient_checkpointing)  # of a shared U-Net the latest
    denoising = DenoisingOptions(stage=name, trains_spatial=learns_frames)
    return DenoisingTask(system.with_text(unet), held_back, denoising)


def _encoded(system: GeneratorSystem, name: GeneratorStage, batch: Batch) -> Batch:
    """Return a batch where the system is; for denoising with latents, in full precision."""
    here: Batch = {k: v.to(system.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    if name == "decoder":
        return here
    frames = here.pop("frames")
    return here | {"latents": system.image.encode(unit_range(frames))}


def _defaults(options: TrainVideoLdmOptions, image: ImageModel) -> GeneratorDefaults:
    """Return the settings that the model was trained for."""
    width, height = image.size_of(options.width, options.height)
    guidance = image.defaults.translation_guidance
    return GeneratorDefaults(
        guidance_scale=guidance,
        translation_guidance=guidance,
        window=options.frames,
        key_frame_rate=options.key_frame_rate,
        interpolations=options.interpolations,
        width=width,
        height=height,
        decoder_window=options.frames,
    )
