"""Pass 1: segment after segment, each saved whole before the next begins."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from legato.device import return_freed_memory
from legato.errors import Interrupted, ResourceError
from legato.pipelines.background import Prefetch, WriteBehind
from legato.pipelines.carried import Carried
from legato.pipelines.events import Event, OnEvent, Stop, notice
from legato.pipelines.frame_buffer import FrameBuffer
from legato.pipelines.memory import is_out_of_memory, smaller_tiles
from legato.pipelines.pictures import to_model, to_size, write_picture
from legato.pipelines.restore import BrokenOutputError, Restorer
from legato.pipelines.saved_plan import Execution, Fallback, SavedPlan
from legato.pipelines.segments import Segment
from legato.pipelines.workfolder import WorkFolder
from legato.video.codecs import CodecOptions
from legato.video.frame import Frame
from legato.video.probe import VideoFacts
from legato.video.read import ReadOptions, read_frames
from legato.video.write import VideoWriter

QUEUED_BYTES = 1 << 25  # decoded or finished frames that wait for the other side
MIN_WINDOW = 2


@dataclass(frozen=True, kw_only=True)
class Job:
    """One source on its way to one output."""

    facts: VideoFacts
    read: ReadOptions
    plan: SavedPlan
    folder: WorkFolder
    segments: Sequence[Segment]
    """All of the range; `run` may be asked for some of them."""
    size: tuple[int, int]
    """Width and height of the output's stored frames."""
    codec: CodecOptions
    make_restorer: Callable[[Execution, str | None], Restorer]
    """From the way of computing and the prompt of a shot; None: that of the options."""
    model_window: int
    """Frames that the model denoises together unless told otherwise."""

    def restorer(self, segment: Segment) -> Restorer:
        """Return what restores a segment, by the plan as it is now."""
        return self.make_restorer(self.plan.execution, self.plan.prompt_of(segment))


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run of segments did."""

    num_restored: int = 0
    """Frames computed by this run."""
    num_resumed: int = 0
    """Segments that were finished before it."""
    seconds: float = 0.0


def run(job: Job, chosen: Sequence[Segment], *, on_event: OnEvent, stop: Stop) -> Outcome:
    """Compute the chosen segments that are not finished yet, in order.

    Raises:
        Interrupted: `stop` said so; finished segments are kept.
        InputError: a finished segment is damaged.
        ResourceError: memory or disk ran out, and no smaller setting is left.
        DecodeError: the source changed.
    """
    outcome = Outcome()
    waiting = job.folder.missing(chosen)
    outcome.num_resumed = len(chosen) - len(waiting)
    if not waiting:
        return outcome
    total = sum(len(segment) for segment in chosen)
    done = total - sum(len(segment) for segment in waiting)
    began = time.perf_counter()
    restorer = job.restorer(waiting[0])
    first = waiting[0].first - waiting[0].num_before(restorer.context_before)
    reader = _read_ahead(job, first)
    try:
        buffer = FrameBuffer(iter(reader), job.plan.survey.pts, first=first)
        shot = waiting[0].shot_first
        for segment in waiting:
            if stop():
                raise _interrupted()
            if segment.shot_first != shot and job.plan.prompts:
                restorer, shot = job.restorer(segment), segment.shot_first
            report = _Progress(on_event, done=done, total=total, frames=len(segment))
            restorer = _with_fallbacks(job, restorer, segment, buffer, report)
            _forget_state(job, segment)
            _tell_approximation(job, restorer, on_event)
            done += len(segment)
            outcome.num_restored += len(segment)
            on_event(Event(stage="restore", done=done, total=total))
    finally:
        reader.close()
    outcome.seconds = time.perf_counter() - began
    return outcome


@dataclass(frozen=True, slots=True)
class _Progress:
    """Turns the share of a segment into frames done."""

    on_event: OnEvent
    done: int
    total: int
    frames: int

    def __call__(self, share: float | int) -> None:
        done = self.done + min(share, 1.0) * self.frames
        self.on_event(Event(stage="restore", done=done, total=self.total))


def _with_fallbacks(
    job: Job, restorer: Restorer, segment: Segment, buffer: FrameBuffer, report: _Progress
) -> Restorer:
    """Restore one segment, stepping back where memory or precision does not suffice."""
    while True:
        try:
            _restore(job, restorer, segment, buffer, report)
            return restorer
        except BrokenOutputError as error:
            if job.plan.execution.dtype == "float32":
                raise
            execution, why = replace(job.plan.execution, dtype="float32"), error.what
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            execution, why = _smaller(job, segment), "memory ran out"
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        fallback = Fallback(segment=segment.index, why=why, execution=execution)
        job.plan.fallbacks.append(fallback)
        job.plan.execution = execution
        job.plan.save(job.folder.plan)
        notice(report.on_event, fallback.sentence())
        restorer = job.restorer(segment)


def _smaller(job: Job, segment: Segment) -> Execution:
    """Return execution that need less memory than those in force.

    Raises:
        ResourceError: there are none.
    """
    execution = job.plan.execution
    if execution.batches_guidance:
        return replace(execution, batches_guidance=False)
    tiles = smaller_tiles(execution.tile, (job.facts.width, job.facts.height))
    if tiles:
        return replace(execution, tile=tiles[0])
    window = execution.window or job.model_window
    if window > MIN_WINDOW:
        return replace(execution, window=max(MIN_WINDOW, window // 2))
    raise ResourceError(
        f"{job.facts.path}: memory ran out in segment {segment.index}",
        why="even the smallest tile and window do not fit",
        fix="free memory, or repeat with a smaller --segment and --restart",
    )


def _restore(
    job: Job, restorer: Restorer, segment: Segment, buffer: FrameBuffer, report: _Progress
) -> None:
    """Compute one segment and put its frames and its state into the work folder."""
    before = segment.num_before(restorer.context_before)
    after = segment.num_after(restorer.context_after)
    frames = buffer.take(segment.first - before, segment.stop + after)
    previous = job.folder.state(segment.index - 1)
    chunks, carried = restorer.stream(
        to_model(frames),
        [frame.pts for frame in frames],
        num_anchors=before,
        num_lookahead=after,
        state=None if segment.starts_shot else Carried.load(previous),
        on_pass=report,
    )
    carried.save(job.folder.state(segment.index))
    del carried
    return_freed_memory()  # of the denoising, before the decoding
    emitted = frames[before : before + len(segment)]
    width, height = job.size
    depth = max(1, QUEUED_BYTES // (width * height * 3 * 4))  # float32
    with VideoWriter(
        job.folder.segment(segment.index),
        size=job.size,
        time_base=job.facts.time_base,
        options=job.codec,
        facts=job.facts,
    ) as writer:

        def write(finished: tuple[Frame, Float[Tensor, "3 H W"]]) -> None:
            write_picture(writer, *finished)

        with WriteBehind(write, depth=depth) as behind:
            pictures = (picture for chunk in chunks for picture in to_size(chunk, job.size))
            for finished in zip(emitted, pictures, strict=True):
                behind.put(finished)
    return_freed_memory()


def _read_ahead(job: Job, first: int) -> Prefetch[Frame]:
    """Start decoding at a frame of the range; the thread stops behind its last frame."""
    pts = job.plan.survey.pts
    whole = job.plan.survey.start is None and first == 0
    frames: Iterator[Frame] = read_frames(
        job.facts.path,
        facts=job.facts,
        options=job.read,
        start_pts=None if whole else pts[first],
    )
    bytes_per_frame = job.facts.width * job.facts.height * 3 * (1 + (job.facts.bit_depth > 8))
    depth = max(2, min(32, QUEUED_BYTES // bytes_per_frame))
    return Prefetch(islice(frames, len(pts) - first), depth=depth)


def _forget_state(job: Job, segment: Segment) -> None:
    """Remove the state that the finished segment began with: nobody reads it again."""
    job.folder.state(segment.index - 1).unlink(missing_ok=True)


def _tell_approximation(job: Job, restorer: Restorer, on_event: OnEvent) -> None:
    """Say once, and keep for the report, how far an approximate decoder is from the exact one."""
    if restorer.approximation is not None and not job.plan.approximation:
        job.plan.approximation = notice(on_event, restorer.approximation.sentence)
        job.plan.save(job.folder.plan)


def _interrupted() -> Interrupted:
    return Interrupted(
        "stopped", why="finished segments were kept", fix="repeat the command to continue"
    )
