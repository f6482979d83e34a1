"""A video in the look that a prompt names, without training: the FRESCO system.

Yang et al. 2024, arXiv:2403.12962: key frames of each shot are denoised in batches that hold on to
one another, from the input under noise; the frames between them follow along the optical flow.
"""

import time
from dataclasses import replace
from pathlib import Path

from legato.device import return_freed_memory
from legato.pipelines.deliver import deliver
from legato.pipelines.events import OnEvent, Stop, ignore, never
from legato.pipelines.memory import memory_errors
from legato.pipelines.prepare_translation import prepare
from legato.pipelines.report import TranslationReport
from legato.pipelines.run_options import RunOptions
from legato.pipelines.translate_options import TranslateOptions
from legato.pipelines.translation_request import examine
from legato.pipelines.upscale import disk_errors
from legato.pipelines.workfolder import working

__all__ = ["TranslateOptions", "translate"]


def translate(
    source: Path | str,
    target: Path | str,
    options: TranslateOptions | None = None,
    *,
    run: RunOptions | None = None,
    on_event: OnEvent = ignore,
    stop: Stop = never,
) -> TranslationReport:
    """Give a video, a folder of images or an image another look; size and times stay.

    Finished parts are kept beside the output until it is complete: the same call again continues
    an interrupted one, and gives the same frames as if it had never been interrupted.

    Args:
        source: a video, an image, or a folder of images that are frames of one video.
        target: the file to write; a name without suffix is a folder of PNG.
        options: everything that changes the result.
        run: where and how to compute.
        on_event: told of progress and notices, in the calling thread.
        stop: asked between parts; True ends the run, and what is finished is kept.

    Returns:
        What was done; also written beside the output, or where `run.report` says.

    Raises:
        InputError: the source, an option, a word or the target cannot be used.
        ModelError: a model is missing, damaged or does not fit.
        ResourceError: memory or disk do not suffice; finished parts are kept.
        Interrupted: `stop` said so; finished parts are kept.
    """
    began = time.perf_counter()
    source, target = Path(source), Path(target)
    request = examine(source, target, options or TranslateOptions(), run or RunOptions())
    folder = request.folder
    with disk_errors(target), working(folder, restart=request.run.restart):
        job = prepare(request, on_event)
        stages: dict[str, float] = {}
        num_resumed = 0
        for stage in job.stages():
            started = time.perf_counter()
            with memory_errors(
                str(source),
                why=f"{job.options.batch_size} key frames of {job.size_computed[0]}x"
                f"{job.size_computed[1]} do not fit",
                fix="use a smaller --batch-size or --resolution, with --restart",
            ):
                num_resumed += stage.run(on_event=on_event, stop=stop)
            stages[stage.name] = round(time.perf_counter() - started, 3)
            return_freed_memory()
        survey = job.plan.survey
        delivery = deliver(
            [folder.segment(segment.index) for segment in job.segments],
            target,
            facts=request.facts,
            scale=None,
            span=(survey.start, survey.end),
            on_event=on_event,
        )
        report = replace(
            job.report(target, delivery, stages, num_resumed),
            seconds=round(time.perf_counter() - began, 3),
        )
        report.close(folder, request.run.report)
    return report
