"""The x4 upsampler of driving scenes: pixels of large renders from small frames.

Half of the small frames went through the generating model's autoencoder, for that is what it will
be given.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import UNet2DConditionModel
from einops import rearrange
from numpy import ndarray
from numpy.lib.format import open_memmap

from legato.device import choose_device, keep_freed_memory
from legato.diffusion.schedule import Schedule
from legato.errors import ModelError
from legato.models.generator import GeneratorModel
from legato.models.generator_folder import load_generator
from legato.models.inflate import inflate
from legato.models.load import load_upscaler
from legato.models.manifest import Manifest, UpscalerDefaults
from legato.models.pixel_residual import CHANNELS, PixelResidual
from legato.models.save import UpscalerParts, save_upscaler
from legato.models.text import WordEncoder
from legato.models.tiny_autoencoder import FACTOR
from legato.pipelines.limits import all_within, in_order, none_empty
from legato.training.batches import unit_range
from legato.training.driving import model as generating
from legato.training.driving.clips import HELD_BACK_FROM, is_current, save_array
from legato.training.driving.options import MOST_ROWS
from legato.training.driving.render import SIZE, World
from legato.training.export import scheduler_config
from legato.training.pixel_stage import PixelStage, PixelTask, PixelUpsampler
from legato.training.run_record import begin_run
from legato.training.trainer import Batch, TrainerOptions, train

FRAMES = 8
"""Of a clip, as many as are enlarged together."""
RATES, RATE_SHARES = (3.75, 15.0, 60.0), (0.2, 0.6, 0.2)
"""Frames per second of key frames and after one and two interpolations; how often each is met."""
PATCH = 32
"""Rows and columns of the small patches that are learned from."""
MAX_LEVEL = 250
TEXT_WIDTH = 8
"""Of the one embedding that stands for no text; no layer attends to it."""
UNET: dict[str, Any] = {
    "sample_size": list(SIZE),
    "in_channels": CHANNELS + 3,
    "out_channels": CHANNELS,
    "block_out_channels": (48, 56),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D",) * 2,
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ("UpBlock2D",) * 2,
    "cross_attention_dim": TEXT_WIDTH,
    "num_class_embeds": 256,
    "norm_num_groups": 8,
}
TEMPORAL: dict[str, Any] = {"attention": False, "initial_mix": 0.0}
SCHEDULE = replace(generating.SCHEDULE, prediction_type="sample")
MANIFEST = Manifest(
    name="driving-x4",
    family="video_ldm",
    licence="Apache-2.0",
    scale=FACTOR,
    prediction_type=SCHEDULE.prediction_type,
    defaults=UpscalerDefaults(
        steps=8,
        noise_level=20,
        max_noise_level=MAX_LEVEL,
        window=FRAMES,
        overlap=2,
        consistency="temporal",
    ),
)


@dataclass(frozen=True, kw_only=True)
class LargeClipOptions:
    """Which large clips are rendered."""

    clips: int = 360
    """How many there are, each of a world of its own."""
    size: tuple[int, int] = (FACTOR * SIZE[0], FACTOR * SIZE[1])
    """Rows and columns."""
    first_seed: int = 200_000
    """Of the worlds."""
    latest_seconds: float = 90.0
    """Clips begin between 0 and this."""


@dataclass(frozen=True, kw_only=True)
class UpsamplerRecipe:
    """How the upsampler is trained."""

    clips: LargeClipOptions = field(default_factory=LargeClipOptions)
    held_back: LargeClipOptions = field(
        default_factory=lambda: LargeClipOptions(clips=8, first_seed=HELD_BACK_FROM)
    )
    trainers: dict[PixelStage, TrainerOptions] = field(
        default_factory=lambda: {
            "image": TrainerOptions(
                steps=4000, learning_rate=1e-3, validate_every=500, ema_decay=0.998
            ),
            "temporal": TrainerOptions(
                steps=3000, learning_rate=1e-3, validate_every=500, ema_decay=0.998
            ),
        }
    )
    batch_sizes: dict[PixelStage, int] = field(default_factory=lambda: {"image": 20, "temporal": 4})

    def rendering(self, size: tuple[int, int]) -> "UpsamplerRecipe":
        """Return the recipe with clips of other rows and columns, also held back."""
        clips, held_back = (replace(part, size=size) for part in (self.clips, self.held_back))
        return replace(self, clips=clips, held_back=held_back)


@dataclass(frozen=True, kw_only=True)
class UpsamplerOptions:
    """`legato train driving_x4`: render large driving scenes and train an upsampler of them."""

    out: Path = Path("runs/driving_x4")
    """Folder of rendered clips, checkpoints, logs, picture grids and the exported model."""
    model: str = "driving"
    """Generating model whose frames shall be enlarged: clips are rendered four times as large as
    they are, and half of the small ones go through its autoencoder."""
    stages: tuple[PixelStage, ...] = ("image", "temporal")
    """Stages to run, in this order; a finished one that is found in `out` is not run again. Name it
    all the same: later ones go on from it."""
    clips: int | None = None
    """Clips to render instead of the recipe's number."""
    steps: int | None = None
    """Steps of both stages instead of the recipe's."""
    batch_scale: int = 1
    """The recipe's batches, which suit a CPU, grow by this factor; 12 keeps a large GPU busy."""
    warm_start: str | None = None
    """Upsampler to start from instead of random numbers: a folder that this recipe wrote."""
    max_minutes: float | None = None
    """Stop a stage after this long, with a checkpoint; the same command goes on."""

    def __post_init__(self) -> None:
        none_empty(self, ("stages",))
        in_order(self, "stages")
        all_within(self, ("clips", "steps", "batch_scale"), 1)
        all_within(self, ("max_minutes",), 0)

    def recipe(self) -> UpsamplerRecipe:
        """Return the recipe with the numbers that were chosen."""
        recipe = UpsamplerRecipe()
        if self.clips is not None:
            recipe = replace(recipe, clips=replace(recipe.clips, clips=self.clips))
        if self.steps is not None:
            short = {name: replace(t, steps=self.steps) for name, t in recipe.trainers.items()}
            recipe = replace(recipe, trainers=short)
        sizes = {name: size * self.batch_scale for name, size in recipe.batch_sizes.items()}
        return replace(recipe, batch_sizes=sizes)


def train_upsampler(
    options: UpsamplerOptions, *, log: Callable[[str], None] = lambda line: None
) -> Path:
    """Render, train the stages in order and export a model folder; return it.

    Raises:
        InputError: the folder cannot be written.
        ModelError: a model that is named cannot be read, or makes pictures of another kind.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    device = choose_device("auto")
    generator = load_generator(options.model, device, torch.float32)
    recipe = options.recipe().rendering(large_size(generator))
    system = load_upsampler(options.warm_start) if options.warm_start else build_upsampler()
    system.to(device)
    begin_run("driving_x4", options, log)
    log(f"rendering {recipe.clips.clips} clips")
    learning, held_back = (
        LargeClips(render_large(options.out / name, part, generator))
        for name, part in (("clips", recipe.clips), ("held_back", recipe.held_back))
    )
    if options.warm_start is None:
        set_residual_scale_(system, learning)
    for name in options.stages:
        log(f"stage {name}")
        if not run_stage(system, name, recipe, (learning, held_back), options, log):
            log("time is up; the same command goes on")
            break
    return export_upsampler(system, options.out / "model")


def run_stage(
    system: PixelUpsampler,
    name: PixelStage,
    recipe: UpsamplerRecipe,
    clips: tuple["LargeClips", "LargeClips"],
    options: UpsamplerOptions,
    log: Callable[[str], None],
) -> bool:
    """Run or continue a stage; return whether it is finished."""
    learning, held_back = clips
    frames = FRAMES if name == "temporal" else 1
    size, seed = recipe.batch_sizes[name], recipe.trainers[name].seed
    return train(
        PixelTask(system, name, held_back.whole(frames)),
        lambda step: learning.patches(step, batch_size=size, frames=frames, seed=seed),
        recipe.trainers[name],
        folder=options.out / name,
        max_minutes=options.max_minutes,
        log=log,
    )


def large_size(generator: GeneratorModel) -> tuple[int, int]:
    """Return rows and columns of what a generating model makes, enlarged.

    Raises:
        ModelError: no patch fits into its frames, or they become larger than the renderer draws.
    """
    made = generator.defaults
    most = MOST_ROWS // FACTOR
    if not (PATCH <= made.height <= most and made.width >= PATCH):
        raise ModelError(
            f"model {generator.name!r} makes frames of {made.width}x{made.height} pixels",
            why=f"the upsampler learns from {PATCH} to {most} rows and {PATCH} or more columns",
            fix="name a model of such a size with --model",
        )
    return FACTOR * made.height, FACTOR * made.width


def render_large(folder: Path, options: LargeClipOptions, generator: GeneratorModel) -> Path:
    """Render clips into `frames.npy`, and their small frames into `small.npy`, unless they are.

    Small are the means of 4x4 pixels, and the same through the generating model's autoencoder;
    those of another one are made anew.
    """
    large = _rendered(folder, options)
    path = folder / "small.npy"
    if not is_current(path, reduced(large[0], generator), rounding=1.0):
        save_array(path, np.stack([reduced(clip, generator) for clip in large]))
    return folder


def _rendered(folder: Path, options: LargeClipOptions) -> ndarray:
    """Return the clips of `frames.npy`, rendered unless they are there."""
    path = folder / "frames.npy"
    if path.exists():
        stored: ndarray = np.load(path, mmap_mode="r")
        return stored
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "frames.partial.npy"
    shape = (options.clips, FRAMES, *options.size, 3)
    frames = open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    for number in range(options.clips):
        seed = options.first_seed + number
        rng = np.random.default_rng((seed, 77))
        begin = float(rng.uniform(0, options.latest_seconds))
        rate = float(rng.choice(RATES, p=RATE_SHARES))
        times = [begin + frame / rate for frame in range(FRAMES)]
        frames[number], _ = World(seed).clip(times, options.size)
    frames.flush()
    partial.replace(path)
    return frames


@torch.no_grad()
def reduced(clip: ndarray, generator: GeneratorModel) -> ndarray:
    """Return a clip `T H W 3` reduced by 4, plain and through an autoencoder, `2 T h w 3`."""
    size = (clip.shape[2] // FACTOR, clip.shape[1] // FACTOR)
    plain = np.stack([cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in clip])
    pictures = unit_range(torch.from_numpy(rearrange(plain, "t h w c -> 1 t c h w").copy()))
    latents = generator.encode(pictures.to(generator.unet.device))
    decoded = generator.decode(latents)[0].clamp(-1, 1).cpu()
    levels = ((decoded + 1) * 127.5).round().byte().numpy()
    return np.stack([plain, rearrange(levels, "t c h w -> t h w c")])


class LargeClips:
    """Clips as `render_large` wrote them."""

    def __init__(self, folder: Path) -> None:
        self.frames = np.load(folder / "frames.npy", mmap_mode="r")
        self.small = np.load(folder / "small.npy", mmap_mode="r")

    def patches(self, first: int, *, batch_size: int, frames: int, seed: int) -> Iterator[Batch]:
        """Yield batches of square patches of `frames` neighbouring frames, mirrored at random.

        Some clips run backwards, as some cars do. Batch n depends on (seed, n) only.
        """
        rows, columns = self.small.shape[3:5]
        for step in count(first):
            rng = np.random.default_rng((seed, step))
            large: list[ndarray] = []
            small: list[ndarray] = []
            for number in rng.integers(len(self.frames), size=batch_size).tolist():
                top, left = rng.integers((rows - PATCH + 1, columns - PATCH + 1)).tolist()
                start = int(rng.integers(FRAMES - frames + 1))
                kind = int(rng.integers(len(self.small[number])))
                turn = (-1 if rng.random() < 0.3 else 1, 1, -1 if rng.random() < 0.5 else 1)
                order = tuple(slice(None, None, sign) for sign in turn)
                for clip, scale, found in (
                    (self.frames[number], FACTOR, large),
                    (self.small[number, kind], 1, small),
                ):
                    across = (
                        slice(scale * corner, scale * (corner + PATCH)) for corner in (top, left)
                    )
                    found.append(clip[slice(start, start + frames), *across][order])
            yield _batch(large, small)

    def whole(self, frames: int) -> list[Batch]:
        """Return the first frames of every clip, a clip to a batch, through the autoencoder."""
        return [
            _batch([large[:frames]], [small[1, :frames]])
            for large, small in zip(self.frames, self.small, strict=True)
        ]


def _batch(large: list[ndarray], small: list[ndarray]) -> Batch:
    return {
        name: torch.from_numpy(rearrange(np.stack(clips), "b t h w c -> b t c h w").copy())
        for name, clips in (("frames", large), ("low_res", small))
    }


def build_upsampler() -> PixelUpsampler:
    """Return the upsampler with fresh weights from torch's current seed."""
    unet = UNet2DConditionModel(**UNET)
    unet.to(memory_format=torch.channels_last)
    return PixelUpsampler(
        inflate(unet, "video_ldm", **TEMPORAL),
        PixelResidual(),
        WordEncoder(TEXT_WIDTH, []),
        schedule=SCHEDULE,
        low_res_schedule=Schedule(),
        max_level=MAX_LEVEL,
    )


@torch.no_grad()
def set_residual_scale_(system: PixelUpsampler, clips: LargeClips) -> None:
    """Set the scale of the residuals to 1 / their standard deviation."""
    system.residual.scale.fill_(1.0)
    batch = next(clips.patches(0, batch_size=256, frames=1, seed=5))
    frames, low_res = (unit_range(batch[name]) for name in ("frames", "low_res"))
    device = system.residual.scale.device
    cells = system.residual.encode(frames.to(device), low_res.to(device))
    system.residual.scale.fill_(1 / cells.std().item())


def export_upsampler(system: PixelUpsampler, target: Path) -> Path:
    """Write the upsampler as a model folder in half precision; return the folder."""
    low_res = {"_class_name": "DDPMScheduler", **scheduler_config(system.low_res_schedule)}
    parts = UpscalerParts(
        unet=system.unet,
        autoencoder=system.residual,
        text=system.words,
        schedule={"_class_name": "DDIMScheduler", **scheduler_config(system.schedule)},
        low_res_schedule=low_res,
    )
    save_upscaler(target, parts, MANIFEST)
    return target


def load_upsampler(name_or_path: str) -> PixelUpsampler:
    """Return the upsampler that `export_upsampler` wrote, in float32.

    Raises:
        ModelError: a part is missing or damaged, or it is another model.
    """
    model = load_upscaler(name_or_path, torch.device("cpu"), torch.float32)
    if not isinstance(model.autoencoder, PixelResidual) or not isinstance(model.text, WordEncoder):
        raise ModelError(
            f"model {model.name!r}",
            why="it is no model of pixels",
            fix="use a folder that legato train driving_x4 wrote",
        )
    return PixelUpsampler(
        model.unet,
        model.autoencoder,
        model.text,
        schedule=Schedule.from_config(model.schedule),
        low_res_schedule=Schedule.from_config(model.low_res_schedule),
        max_level=model.defaults.max_noise_level,
    )
