"""Video from words, a first frame or nothing: the complete Video LDM, stage after stage."""

import json
import time
from dataclasses import replace
from pathlib import Path

from legato.device import return_freed_memory
from legato.pipelines.events import OnEvent, Stop, ignore, never, notice
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation_job import GenerationJob
from legato.pipelines.generation_limits import disk_bytes, memory_needed
from legato.pipelines.output import require_space
from legato.pipelines.prepare_generation import prepare
from legato.pipelines.report import GenerationReport
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.run_options import RunOptions
from legato.pipelines.upscale import disk_errors, upscale
from legato.pipelines.upscale_options import UpscaleOptions
from legato.pipelines.workfolder import working

__all__ = ["GenerateOptions", "generate"]


def generate(
    prompt: str,
    target: Path | str,
    options: GenerateOptions | None = None,
    *,
    run: RunOptions | None = None,
    on_event: OnEvent = ignore,
    stop: Stop = never,
) -> GenerationReport:
    """Make a video.

    Finished parts are kept beside the output until it is complete: the same call again continues an
    interrupted one, and gives the same frames as if it had never been interrupted. A longer video
    begins with the frames of a shorter one, up to rounding and to the last window of the decoder.

    Args:
        prompt: what it shows; a comma list of words where the model knows a closed vocabulary.
        target: the file to write; a name without suffix is a folder of PNG.
        options: everything that changes the result.
        run: where and how to compute.
        on_event: told of progress and notices, in the calling thread.
        stop: asked between parts; True ends the run, and what is finished is kept.

    Returns:
        What was done; also written beside the output, or where `run.report` says.

    Raises:
        InputError: a word, an option or the target cannot be used.
        ModelError: the model or one of its stages is missing, damaged or of the wrong kind.
        ResourceError: memory or disk do not suffice; finished parts are kept.
        Interrupted: `stop` said so; finished parts are kept.
    """
    began = time.perf_counter()
    job = prepare(prompt, Path(target), options or GenerateOptions(), run or RunOptions(), on_event)
    with disk_errors(job.target), working(job.folder, restart=job.run.restart):
        if not job.folder.plan.exists():
            require_space(job.folder.path, disk_bytes(job.generation, job.facts, job.codec))
        job.require_same()
        stages: dict[str, float] = {}
        num_resumed = 0
        for stage in job.stages():
            started = time.perf_counter()
            with memory_needed(job.target, job.settings):
                num_resumed += stage.run(on_event=job.on_event, stop=stop)
            stages[stage.name] = round(time.perf_counter() - started, 3)
            return_freed_memory()
        made = job.join()
        if job.settings.upsampler is not None:
            started = time.perf_counter()
            made = _upsample(job, made, job.settings.upsampler, stop=stop)
            stages["restore"] = round(time.perf_counter() - started, 3)
        job.folder.deliver(made)
        report = replace(
            job.report(stages, num_resumed), seconds=round(time.perf_counter() - began, 3)
        )
        report.close(job.folder, job.run.report)
    return report


def _upsample(job: GenerationJob, small: Path, upsampler: str, *, stop: Stop) -> Path:
    """Enlarge the video in overlapping windows by an upscaling model; see `upscale`."""
    upscaled = job.folder.path / f"generated_large{job.target.suffix}"
    report_file = job.folder.path / "generated.json"
    if job.folder.has_delivered or upscaled.exists():  # by an earlier run, which told nobody here
        job.notices += [notice(job.on_event, said) for said in _saved_notices(report_file)]
    else:
        report = upscale(
            small,
            upscaled,
            UpscaleOptions(
                model=upsampler,
                scale=None,
                restore=RestoreOptions(seed=job.options.seed, color="none"),
                output=job.options.output,
                segment=job.options.segment,
            ),
            run=replace(job.run, restart=False, report=report_file),
            on_event=job.on_event,
            stop=stop,
        )
        job.notices += report.notices
    return small if job.folder.has_delivered else upscaled


def _saved_notices(report: Path) -> list[str]:
    """Return those of a report; none where a run was killed before it was written."""
    try:
        return list(json.loads(report.read_text(encoding="utf-8", errors="replace"))["notices"])
    except (OSError, ValueError, KeyError):
        return []
