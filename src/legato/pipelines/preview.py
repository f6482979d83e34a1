"""A few seconds of what the whole job would give, and a picture that shows input beside output."""

import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from legato.pipelines import job as jobs
from legato.pipelines.events import OnEvent, Stop, ignore, never
from legato.pipelines.job import Job
from legato.pipelines.output import picture_path, preview_path
from legato.pipelines.pictures import to_model, to_pixels, to_size
from legato.pipelines.prepare import prepared
from legato.pipelines.report import Report
from legato.pipelines.request import examine
from legato.pipelines.run_options import RunOptions
from legato.pipelines.segments import Segment
from legato.pipelines.survey import Survey
from legato.pipelines.upscale import disk_errors, finish
from legato.pipelines.upscale_options import UpscaleOptions
from legato.video.atomic import write_whole
from legato.video.frame import Pixels
from legato.video.images import encode_image
from legato.video.read import read_frames

PREVIEW_SECONDS = 2


def preview(
    source: Path | str,
    target: Path | str,
    options: UpscaleOptions | None = None,
    *,
    run: RunOptions | None = None,
    on_event: OnEvent = ignore,
    stop: Stop = never,
) -> Report:
    """Render about two seconds of what `upscale` with the same options would give.

    They are whole segments from the beginning of the shot whose first seconds show the most detail,
    computed as the whole job computes them, context included: the frames are the same bit for bit.
    A picture beside the output, named by `picture_path`, shows the middle frame before (enlarged
    bicubically) and after.

    Args:
        source: see `upscale`.
        target: of the whole job; what is rendered lies beside it, see `preview_path`.
        options: see `upscale`; the shots are those of the range from start to end.
        run: see `upscale`.
        on_event: see `upscale`.
        stop: see `upscale`.

    Raises:
        InputError: see `upscale`.
        ModelError: see `upscale`.
        ResourceError: see `upscale`.
        Interrupted: see `upscale`.
    """
    began = time.perf_counter()
    whole, target = Path(target), preview_path(Path(target))
    request = examine(Path(source), target, options or UpscaleOptions(), run or RunOptions())
    with disk_errors(target), prepared(request, on_event) as ready:
        job = ready.job
        chosen = choose_segments(job)
        outcome = jobs.run(job, chosen, on_event=on_event, stop=stop)
        picture = side_by_side(job, chosen)
        span = _span(job.plan.survey, chosen, job.facts.time_base)
        report = finish(ready, chosen, outcome, span=span, began=began, on_event=on_event)
    path = picture_path(whole)
    write_whole(path, encode_image(picture, None, ".png"))
    return report


def choose_segments(job: Job) -> Sequence[Segment]:
    """Return the segments to show: those that begin the most detailed shot, two seconds of them."""
    survey = job.plan.survey
    ticks = PREVIEW_SECONDS / job.facts.time_base
    best: tuple[float, list[Segment]] = (-1.0, [])
    for first in (segment for segment in job.segments if segment.starts_shot):
        shown = [
            segment
            for segment in job.segments
            if segment.shot_first == first.first
            and survey.pts[segment.first] - survey.pts[first.first] < ticks
        ]
        detail = float(np.mean(survey.detail[shown[0].first : shown[-1].stop]))
        if detail > best[0]:
            best = (detail, shown)
    return best[1]


def side_by_side(job: Job, segments: Sequence[Segment]) -> Pixels:
    """Return the middle frame of finished segments: input enlarged bicubically, and output."""
    middle = segments[len(segments) // 2]
    offset = len(middle) // 2
    finished = job.folder.segment(middle.index)
    after = next(islice(read_frames(finished), offset, None)).pixels
    pts = job.plan.survey.pts[middle.first + offset]
    source = read_frames(job.facts.path, facts=job.facts, options=job.read, start_pts=pts)
    before = next(source)
    enlarged = to_pixels(to_size(to_model([before]), job.size)[0], after.dtype)
    return np.ascontiguousarray(np.concatenate([enlarged, after], axis=1))


def _span(
    survey: Survey, segments: Sequence[Segment], time_base: Fraction
) -> tuple[Fraction | None, Fraction | None]:
    """Return the range of the segments in seconds of the stream's clock."""
    first, stop = segments[0].first, segments[-1].stop
    start = survey.start if first == 0 else survey.pts[first] * time_base
    end = survey.end if stop == survey.num_frames else survey.pts[stop] * time_base
    return start, end
