"""The main job: a small, damaged video in, a large, clean and steady one out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from legato.errors import refused_by_system
from legato.pipelines import job as jobs
from legato.pipelines.deliver import Delivery, deliver, range_of
from legato.pipelines.events import OnEvent, Stop, ignore, never
from legato.pipelines.prepare import Prepared, prepared
from legato.pipelines.report import Report, versions
from legato.pipelines.request import examine
from legato.pipelines.run_options import RunOptions
from legato.pipelines.saved_plan import content_of
from legato.pipelines.segments import Segment
from legato.pipelines.upscale_options import UpscaleOptions

__all__ = ["RunOptions", "UpscaleOptions", "upscale"]


def upscale(
    source: Path | str,
    target: Path | str,
    options: UpscaleOptions | None = None,
    *,
    run: RunOptions | None = None,
    on_event: OnEvent = ignore,
    stop: Stop = never,
) -> Report:
    """Restore and enlarge a video, a folder of images or an image.

    Finished segments are kept beside the output until it is complete: the same call again continues
    an interrupted one, and gives the same frames as if it had never been interrupted.

    Args:
        source: a video, an image, or a folder of images that are frames of one video.
        target: the file to write; a name without suffix is a folder of PNG.
        options: everything that changes the result.
        run: where and how to compute.
        on_event: told of progress and notices, in the calling thread.
        stop: asked between segments; True ends the run, and what is finished is kept.

    Returns:
        What was done; also written beside the output, or where `run.report` says.

    Raises:
        InputError: the source, an option or the target cannot be used.
        ModelError: the model is missing, damaged or of the wrong kind.
        ResourceError: memory or disk do not suffice; finished segments are kept.
        Interrupted: `stop` said so; finished segments are kept.
    """
    began = time.perf_counter()
    options, run = options or UpscaleOptions(), run or RunOptions()
    source, target = Path(source), Path(target)
    request = examine(source, target, options, run)
    with disk_errors(target), prepared(request, on_event) as ready:
        job = ready.job
        outcome = jobs.run(job, job.segments, on_event=on_event, stop=stop)
        survey = job.plan.survey
        return finish(
            ready,
            job.segments,
            outcome,
            span=(survey.start, survey.end),
            began=began,
            on_event=on_event,
        )


def finish(
    ready: Prepared,
    segments: Sequence[Segment],
    outcome: jobs.Outcome,
    *,
    span: tuple[Fraction | None, Fraction | None],
    began: float,
    on_event: OnEvent,
) -> Report:
    """Join finished segments with the source's other streams, check, and put all in place.

    Args:
        ready: the job.
        segments: consecutive ones that make the output.
        outcome: of the run that computed them.
        span: seconds of the stream's own clock that they cover; None: to the source's end.
        began: when the run began, by `time.perf_counter`.
        on_event: told of progress and notices.
    """
    request, job = ready.request, ready.job
    target = request.target
    scale = None
    if request.options.height is None:
        scale = Fraction(str(request.options.scale or 4))
    delivery = deliver(
        [job.folder.segment(segment.index) for segment in segments],
        target,
        facts=request.facts,
        scale=scale,
        span=span,
        on_event=on_event,
    )
    ready.notices += delivery.notices
    report = _report(ready, segments, outcome, delivery)
    report = replace(
        report,
        range=range_of(span),
        seconds=round(time.perf_counter() - began, 3),
    )
    report.close(job.folder, request.run.report)
    return report


def _report(
    ready: Prepared,
    segments: Sequence[Segment],
    outcome: jobs.Outcome,
    delivery: Delivery,
) -> Report:
    request, job = ready.request, ready.job
    facts, plan, kept = request.facts, job.plan, delivery.kept
    pts = plan.survey.pts[segments[0].first : segments[-1].stop]
    duration = float((pts[-1] - pts[0]) * facts.time_base)
    seconds = outcome.seconds
    return Report(
        source=str(facts.path),
        target=str(request.target),
        frames_in=kept.num_frames_source,
        frames_out=kept.num_frames_target,
        frames_repeated=plan.survey.num_repeated,
        size_in=(facts.width, facts.height),
        size_out=job.size,
        duration=duration,
        range=None,
        shots=len({segment.shot_first for segment in segments}),
        segments=len(segments),
        segments_resumed=outcome.num_resumed,
        streams=delivery.stream_fates,
        notices=list(dict.fromkeys(filter(None, [*ready.notices, plan.approximation]))),
        fallbacks=[fallback.sentence() for fallback in plan.fallbacks],
        differences=list(kept.differences),
        seconds=0.0,
        frames_per_second=round(outcome.num_restored / seconds, 3) if seconds else 0.0,
        options=request.options.to_json(),
        model=ready.restorers.identity(plan.execution.dtype),
        device=str(ready.restorers.device),
        dtype=plan.execution.dtype,
        tile=plan.execution.tile,
        window=plan.execution.window,
        versions=versions(),
        prompts=plan.prompts,
        source_content=content_of(plan.fingerprint),
    )


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Translate what the system refuses, such as writing to a full disk, into an error of ours.

    Raises:
        ResourceError: a disk is full, fails or is gone; finished segments are kept.
        InputError: something may not be read or written.
    """
    then = ", then repeat the command: it continues with what is finished"
    try:
        yield
    except OSError as error:
        refused = refused_by_system(error, target, then=then)
        if refused is None:
            raise
        raise refused from error
