"""What a job will need, before it starts: frames, shots, memory, disk and time."""

import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from legato.device import available_memory_bytes
from legato.errors import counted
from legato.pipelines.events import Event, OnEvent, ignore
from legato.pipelines.memory import memory_errors
from legato.pipelines.output import COPIES, bytes_on_disk, lacking_space
from legato.pipelines.pictures import to_model, to_size, write_picture
from legato.pipelines.prepare import look_through
from legato.pipelines.request import Request, examine
from legato.pipelines.restore import Restorer
from legato.pipelines.restorers import Restorers
from legato.pipelines.run_options import RunOptions
from legato.pipelines.segments import cut_segments
from legato.pipelines.survey import Survey
from legato.pipelines.upscale_options import UpscaleOptions
from legato.video.codecs import segment_suffix
from legato.video.read import read_frames
from legato.video.write import VideoWriter

MEASURED_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What `upscale` with the same options will do and need."""

    source: str
    frames: int
    frames_repeated: int
    shots: int
    segments: int
    duration: float
    """Seconds from the first frame to the last."""
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    codec: str
    device: str
    dtype: str
    tile: int | None
    """Side of tiles that memory asks for; None: whole frames."""
    batches_guidance: bool
    """Whether the U-Net sees prompt and negative prompt in one call."""
    offload: bool
    """Whether only the part of the model that is at work is in memory."""
    memory_bytes: int
    memory_available_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    seconds_per_frame: float
    """Restoring and encoding, measured on `frames_measured` frames of the source."""
    frames_measured: int
    seconds: float
    notices: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self)


def plan(
    source: Path | str,
    target: Path | str | None = None,
    options: UpscaleOptions | None = None,
    *,
    run: RunOptions | None = None,
    on_event: OnEvent = ignore,
) -> Forecast:
    """Say what a job needs: the range is read once, and a few of its frames are restored and timed.

    Args:
        source: a video, an image, or a folder of images.
        target: where the output would go; by default an MP4 beside the source.
        options: see `upscale`.
        run: see `upscale`.
        on_event: told of progress.

    Raises:
        InputError: source, target or options cannot be used.
        ModelError: the model cannot be loaded.
        ResourceError: memory does not suffice.
    """
    options, run, source = options or UpscaleOptions(), run or RunOptions(), Path(source)
    target = Path(target) if target else source.absolute().parent / f"{source.stem}-legato.mp4"
    request = examine(source, target, options, run)
    options, facts = request.options, request.facts
    restorers = Restorers.of(options, run)
    device = restorers.device
    dtype = restorers.precision(run.dtype)
    on_event(Event(stage="load", message=f"model {options.model}"))
    wanted = request.execution(dtype)
    found, execution, memory = look_through(request, restorers, wanted, on_event)
    segments = cut_segments(found.num_frames, found.shots, size=execution.segment)
    restorer = restorers(execution)
    with (
        restorers.uncompiled(),
        memory_errors(
            "measuring the first frames",
            why="they take more than was counted on",
            fix="use a smaller --tile or --window",
        ),
    ):
        measured, seconds, written = _measure(request, found, restorer)
    span = (found.pts[-1] - found.pts[0]) * facts.time_base
    others = facts.path.stat().st_size if facts.path.is_file() else 0
    return Forecast(
        source=str(source),
        frames=found.num_frames,
        frames_repeated=found.num_repeated,
        shots=len(found.shots),
        segments=len(segments),
        duration=float(span),
        size_in=(facts.width, facts.height),
        size_out=request.size,
        codec=request.codec.codec,
        device=str(device),
        dtype=dtype,
        tile=execution.tile,
        batches_guidance=execution.batches_guidance,
        offload=execution.offload,
        memory_bytes=memory,
        memory_available_bytes=available_memory_bytes(device),
        disk_bytes=COPIES * written * found.num_frames // measured + others,
        disk_free_bytes=shutil.disk_usage(target.absolute().parent).free,
        seconds_per_frame=seconds / measured,
        frames_measured=measured,
        seconds=seconds / measured * found.num_frames,
        notices=[*request.notices, *restorer.notices, *found.notices, *_untold(request, found)],
    )


def _untold(request: Request, found: Survey) -> list[str]:
    """Name what comes on top of the time that was measured, and a disk without room."""
    untimed = []
    if request.options.caption:
        shots = counted(len(found.shots), "shot")
        untimed.append(f"captioning {shots} comes on top of the time")
    if request.run.compile:
        untimed.append("timed without compiling, which comes on top")
    needed = bytes_on_disk(
        request.facts, request.codec, size=request.size, num_frames=found.num_frames
    )
    return [*untimed, *lacking_space(request.target.absolute().parent, needed)]


def _measure(request: Request, found: Survey, restorer: Restorer) -> tuple[int, float, int]:
    """Restore and encode the first frames; return their number, seconds and bytes written."""
    facts = request.facts
    start = None if found.start is None else found.pts[0]
    stop = min(MEASURED_FRAMES, found.num_frames, *(cut for cut in found.shots if cut))
    read = request.options.read
    source = read_frames(facts.path, facts=facts, options=read, start_pts=start)
    frames = list(islice(source, stop))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        suffix = segment_suffix(request.codec, facts)
        path = Path(folder) / f"measured{suffix}"
        with VideoWriter(
            path,
            size=request.size,
            time_base=facts.time_base,
            options=request.codec,
            facts=facts,
        ) as writer:
            chunks, _ = restorer.stream(
                to_model(frames),
                [frame.pts for frame in frames],
                num_anchors=0,
                num_lookahead=0,
                state=None,
            )
            pictures = (picture for chunk in chunks for picture in to_size(chunk, request.size))
            for frame, picture in zip(frames, pictures, strict=True):
                write_picture(writer, frame, picture)
        seconds = time.perf_counter() - began
        files = path.rglob("*") if path.is_dir() else [path]
        return stop, seconds, sum(file.stat().st_size for file in files)
