"""`legato train motion`: temporal layers learn the motion of a few clips, or of a single one.

Low-rank weights on the attentions over time learn, everything else stays (MotionLoRA of Guo et al.
2023, arXiv:2307.04725); with one clip it is one-shot tuning (Wu et al. 2023, Tune-A-Video,
arXiv:2212.11565), whose image model here stays as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from legato.device import choose_device, keep_freed_memory
from legato.diffusion.noise import NoisePrior
from legato.diffusion.schedule import Schedule
from legato.errors import InputError
from legato.evaluation.captions import caption_of
from legato.evaluation.clips import find_clips, read_clip
from legato.models.generator import GeneratorModel
from legato.models.generator_folder import load_generator
from legato.models.low_rank import adapt_, save_low_rank
from legato.models.text import WordEncoder
from legato.models.trainable_text import TrainableText
from legato.pipelines.limits import all_above_zero, all_within
from legato.training.captions import require_known
from legato.training.generator_stages import DenoisingOptions, DenoisingTask, VideoLdm
from legato.training.pictures import as_clip, fitted, joined
from legato.training.run_record import begin_run, beginning
from legato.training.trainer import Batch, Log, TrainerOptions, silent, train
from legato.video.probe import probe

FILE = "motion.safetensors"


@dataclass(frozen=True, kw_only=True)
class MotionOptions:
    """`legato train motion`: teach a generating model the motion of a few clips, or of one, by
    low-rank weights for `legato generate --motion-lora`. The same command goes on.
    """

    data: Path
    """A video, a folder of videos, or of folders of frames; NAME.txt beside NAME.mp4 or NAME/ is
    its caption."""
    held_back: Path | None = None
    """Such clips that are not learned from, for validation. Default: `data`."""
    model: str = "driving"
    """Name of an installed model that generates, or the path of a model folder."""
    prompt: str = ""
    """Stands before every caption."""
    rank: int = 8
    """Of the low-rank weights: more hold more, of motion and of what was seen."""
    max_context_noise: int = DenoisingOptions.max_context_noise
    """Largest noise on given frames, as a training timestep; layers that see its level are told."""
    fps: float | None = None
    """Frames per second of the clips instead of what their files say; folders of frames say
    nothing useful."""
    out: Path = Path("runs/motion")
    """Folder of checkpoints, logs, picture grids and `motion.safetensors`."""
    steps: int = 500
    """Optimizer steps."""
    batch_size: int = 2
    """Clips of key frames of a step."""
    learning_rate: float = 1e-3
    """Peak rate."""
    validate_every: int = 100
    """Steps between validations, each with a checkpoint."""
    seed: int = 0
    """Seed of batches, noise and fresh weights."""
    max_minutes: float | None = None
    """Stop after this long, with a checkpoint; the same command goes on."""

    def __post_init__(self) -> None:
        all_within(self, ("validate_every",), 1)
        all_within(self, ("seed", "max_minutes"), 0)
        all_within(self, ("max_context_noise",), 0, 999)
        all_above_zero(self, ("fps", "learning_rate"))
        if min(self.rank, self.batch_size, self.steps) < 1:
            raise InputError(
                f"rank={self.rank}, batch_size={self.batch_size}, steps={self.steps}",
                why="each begins at 1",
                fix="use for example rank 8 and 2 clips",
            )


@dataclass(frozen=True, kw_only=True)
class LatentClip:
    """A clip to learn from."""

    latents: Float[Tensor, "T C h w"]
    """Of all its frames."""
    stride: int
    """Frames from one key frame to the next."""
    caption: str


def train_motion(options: MotionOptions, *, log: Log = silent) -> Path:
    """Train low-rank weights on clips; return their file.

    Raises:
        InputError: there is no clip, or one is too short; or the folder cannot be written.
        ModelError: the model is missing or has no attention over frames.
    """
    keep_freed_memory()
    device = choose_device("auto")
    model = load_generator(options.model, device, torch.float32)
    denoising = denoising_of(options, model)
    with beginning(options.out):
        begin_run("motion", options, log)
        held_back = clips = encode_clips(options.data, model, options)
        if options.held_back is not None:
            held_back = encode_clips(options.held_back, model, options)
    text = TrainableText(model.text).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        adapters = adapt_(model.unet.temporal, options.rank)
    schedule = Schedule.from_config(model.schedule)
    ldm = VideoLdm(model.unet, model.autoencoder, text, schedule)
    window = model.defaults.window
    task = DenoisingTask(
        ldm,
        [_batch([clip], [0], model) for clip in held_back[:8]],
        denoising,
        learning=adapters,
    )

    def batches(first: int) -> Iterator[Batch]:
        for step in count(first):
            rng = np.random.default_rng((options.seed, step))
            chosen = [clips[k] for k in rng.integers(len(clips), size=options.batch_size)]
            starts = [int(rng.integers(len(c.latents) - (window - 1) * c.stride)) for c in chosen]
            yield _batch(chosen, starts, model)

    trainer = TrainerOptions(
        steps=options.steps,
        learning_rate=options.learning_rate,
        warm_up=min(50, options.steps),
        ema_decay=0.99,
        validate_every=options.validate_every,
        seed=options.seed,
    )
    if not train(
        task, batches, trainer, folder=options.out, max_minutes=options.max_minutes, log=log
    ):
        log("time is up; the same command goes on")
    return save_low_rank(adapters, options.out / FILE)


def denoising_of(options: MotionOptions, model: GeneratorModel) -> DenoisingOptions:
    """Return how the clips are put under noise: as those were that the model learned from.

    Raises:
        InputError: noise is asked for on given frames, and the model takes none.
    """
    level, defaults = options.max_context_noise, model.defaults
    if level and not model.predicts:
        raise InputError(
            f"max_context_noise={level} with model {model.name!r}",
            why="its temporal layers take no given frames",
            fix="leave it out",
        )
    prior = NoisePrior(kind=defaults.noise_prior, strength=defaults.noise_strength)
    return DenoisingOptions(prior=prior, max_context_noise=level)


def encode_clips(root: Path, model: GeneratorModel, options: MotionOptions) -> list[LatentClip]:
    """Return the latents of all clips at a path, at the model's own size.

    Raises:
        InputError: there is none, or one has fewer frames than a clip of key frames spans, or a
            caption that the model cannot be told.
    """
    defaults, clips = model.defaults, []
    for name, path in find_clips(root).items():
        rate = options.fps or float(probe(path).frame_rate or defaults.key_frame_rate)
        stride = max(round(Fraction(rate) / Fraction(defaults.key_frame_rate)), 1)
        caption = joined(options.prompt, caption_of(path))
        if isinstance(model.text, WordEncoder):
            require_known(model.text, caption, path)
        frames = (fitted(frame, (defaults.width, defaults.height)) for frame in read_clip(path))
        encoded = [model.encode(as_clip(f[None]).to(model.unet.device))[:, 0].cpu() for f in frames]
        needed = (defaults.window - 1) * stride + 1
        if len(encoded) < needed:
            raise InputError(
                f"clip {name} has {len(encoded)} frames",
                why=f"{defaults.window} key frames span {needed} at {rate:g} per second",
                fix="use longer clips, or say their rate with --fps",
            )
        clips.append(LatentClip(latents=torch.cat(encoded), stride=stride, caption=caption))
    return clips


def _batch(clips: list[LatentClip], starts: list[int], model: GeneratorModel) -> Batch:
    """Return clips of key frames, each from a frame on."""
    span, defaults = model.defaults.window, model.defaults
    latents = [
        clip.latents[start : start + (span - 1) * clip.stride + 1 : clip.stride]
        for clip, start in zip(clips, starts, strict=True)
    ]
    return {
        "latents": torch.stack(latents).to(model.unet.device),
        "words": [clip.caption for clip in clips],
        "frame_rate": torch.full((len(clips),), defaults.key_frame_rate),
    }
