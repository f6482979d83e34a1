"""What a generated video will need, before it is made: frames, parts, memory, disk and time."""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from legato.device import available_memory_bytes
from legato.pipelines.events import OnEvent, Stage, ignore
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation_job import GenerationJob
from legato.pipelines.generation_limits import disk_bytes, memory_needed
from legato.pipelines.output import COPIES, lacking_space
from legato.pipelines.prepare_generation import prepare
from legato.pipelines.run_options import RunOptions
from legato.pipelines.timeline import PAIRS_PER_PART, Timeline
from legato.pipelines.workfolder import WorkFolder

if sys.platform != "win32":
    import resource


@dataclass(frozen=True, kw_only=True)
class GenerationForecast:
    """What `generate` with the same arguments will do and need."""

    target: str
    frames: int
    key_frames: int
    calls: int
    """Clips of key frames that are denoised one after another."""
    parts: dict[str, int]
    """Parts that are saved one by one, of each stage."""
    size: tuple[int, int]
    """Columns and rows, before an upsampler."""
    frame_rate: str
    duration: float
    """Seconds of video."""
    device: str
    dtype: str
    memory_bytes: int | None
    """Largest that this process has held up to here, with the model and one part of each stage at
    work; it does not grow with the video. None: this system does not tell."""
    memory_available_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    seconds_of_stages: dict[str, float]
    """Measured: one denoising step of each kind of call, and one window of the decoder."""
    seconds: float
    notices: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self)


def plan_generation(
    prompt: str,
    target: Path | str,
    options: GenerateOptions | None = None,
    *,
    run: RunOptions | None = None,
    on_event: OnEvent = ignore,
) -> GenerationForecast:
    """Say what a video needs: a step of each kind of call is computed and timed, nothing is kept.

    Args:
        prompt: see `generate`.
        target: see `generate`.
        options: see `generate`.
        run: see `generate`.
        on_event: told of progress.

    Raises:
        InputError: a word, an option or the target cannot be used.
        ModelError: the model or one of its stages is missing.
        ResourceError: memory does not suffice for frames of this size.
    """
    target = Path(target)
    job = prepare(prompt, target, options or GenerateOptions(), run or RunOptions(), on_event)
    settings, timeline = job.settings, job.settings.timeline
    held = memory_needed(target, settings, is_plan=True)
    with tempfile.TemporaryDirectory() as folder, held:
        clock, written = _measure(job, Path(folder))
    works = list(job.stages())
    seconds = clock.of(job)
    video = COPIES * written * timeline.num_frames // clock.frames
    needed = disk_bytes(job.generation, job.facts, job.codec)
    notices = [*job.notices, *lacking_space(target.absolute().parent, needed)]
    if settings.upsampler:
        notices.append("upsampling comes on top of time and disk; legato plan says what it needs")
    return GenerationForecast(
        target=str(target),
        frames=timeline.num_frames,
        key_frames=timeline.num_key_frames,
        calls=len(job.generation.calls),
        parts={work.name: work.num_parts for work in works},
        size=(settings.width, settings.height),
        frame_rate=str(settings.frame_rate),
        duration=float(timeline.num_frames / settings.frame_rate),
        device=str(job.device),
        dtype=job.dtype,
        memory_bytes=_peak_bytes(job.device),
        memory_available_bytes=available_memory_bytes(job.device),
        disk_bytes=job.generation.latent_bytes + video,
        disk_free_bytes=shutil.disk_usage(target.absolute().parent).free,
        seconds_of_stages={name: round(value, 3) for name, value in seconds.items()},
        seconds=round(sum(seconds.values()), 3),
        notices=notices,
    )


@dataclass(kw_only=True)
class _Clock:
    """Seconds of one step of each kind of call, and of the pictures of one window."""

    took: dict[str, float] = field(default_factory=dict)
    pairs: int = 1
    """Pairs of key frames between which frames were made."""
    frames: int = 1
    """That were decoded and written."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.took[name] = time.perf_counter() - began

    def of(self, job: GenerationJob) -> dict[Stage, float]:
        """Return the seconds of each stage of the whole video."""
        steps, timeline = job.settings.num_inference_steps, job.settings.timeline
        calls, pairs = len(job.generation.calls), timeline.num_key_frames - 1
        image = self.took.get("image", 0.0) * (1 if job.options.first_frame else steps)
        share, call = job.settings.temporal_share, self.took.get("call", 0.0)
        step = share * call + (1 - share) * self.took.get("finish", call)
        between = self.took["between"] * pairs / self.pairs
        return {
            "keyframes": image + steps * calls * step,
            "interpolate": between
            * (job.settings.interpolation_steps if timeline.interpolations else 1),
            "decode": self.took["decode"] * timeline.num_frames / self.frames,
        }


def _measure(job: GenerationJob, folder: Path) -> tuple[_Clock, int]:
    """Make the beginning of the video with one step; return the times and the bytes of frames."""
    settings, clock = job.settings, _Clock()
    reach = min(settings.window - 1, PAIRS_PER_PART, settings.timeline.num_key_frames - 1)
    timeline = Timeline(
        num_frames=max(reach, 0) * settings.timeline.stride + 1,
        interpolations=settings.timeline.interpolations,
    )
    if settings.timeline.num_frames < timeline.num_frames:
        timeline = settings.timeline
    short = replace(settings, timeline=timeline, num_inference_steps=1, interpolation_steps=1)
    kept = WorkFolder(folder / job.target.name, suffix=job.folder.suffix)
    kept.create()
    made = replace(
        job.generation,
        settings=short,
        sampler=replace(job.generation.sampler, num_inference_steps=1),
        folder=kept,
    )
    begins = replace(job, settings=short, generation=made, folder=kept)
    for part, (first, _) in enumerate(pairwise(made.key_frames.bounds)):
        is_image = first == 0 and settings.start == "image"
        with clock.timed("image" if is_image else "call"):
            made.make_key_frames(part, _unheard)
        if not is_image and 0 < settings.temporal_share < 1:
            finish = replace(made, settings=replace(short, temporal_share=0.0))
            with clock.timed("finish"):
                finish.make_key_frames(part, _unheard)
    clock.pairs = max(timeline.num_key_frames - 1, 1)
    with clock.timed("between"):
        made.make_between(0, _unheard)
    decode = list(begins.stages())[-1]
    with clock.timed("decode"):
        decode.make(0, _unheard)
    clock.frames = begins.segments()[0].stop
    path = kept.segment(0)
    files = path.rglob("*") if path.is_dir() else [path]
    return clock, sum(file.stat().st_size for file in files)


def _peak_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _unheard(done: float | int) -> None:
    """Tell nobody: what is measured is no progress."""
