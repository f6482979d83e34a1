"""From a source and options to a job that can run; what must be refused is refused here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from legato.models.folder import hash_file
from legato.models.spec import find_folder
from legato.pipelines.caption import caption_shots
from legato.pipelines.events import Event, OnEvent, notice
from legato.pipelines.job import Job
from legato.pipelines.output import bytes_on_disk, require_space
from legato.pipelines.request import Request
from legato.pipelines.restorers import Restorers, fit_into_memory
from legato.pipelines.saved_plan import (
    Execution,
    SavedPlan,
    folder_fingerprint,
    require_same,
    source_fingerprint,
)
from legato.pipelines.segments import cut_segments
from legato.pipelines.survey import Survey, survey
from legato.pipelines.upscale_options import UpscaleOptions
from legato.pipelines.workfolder import WorkFolder, working
from legato.video.codecs import segment_suffix


@dataclass(kw_only=True)
class Prepared:
    """A job that can run, and what is known of it."""

    request: Request
    job: Job
    restorers: Restorers
    dtype: str
    notices: list[str]


@contextmanager
def prepared(request: Request, on_event: OnEvent) -> Iterator[Prepared]:
    """Lock the work folder and make the job ready, new or resumed.

    A run that fails before its first segment leaves no folder behind.

    Raises:
        InputError: an unfinished job that differs lies there; nothing in range.
        ModelError: the model is missing or damaged.
        ResourceError: another run works there; memory or disk do not suffice.
    """
    suffix = segment_suffix(request.codec, request.facts)
    folder = WorkFolder(request.target, suffix=suffix)
    with working(folder, restart=request.run.restart):
        yield _prepare(request, folder, on_event)


def _prepare(request: Request, folder: WorkFolder, on_event: OnEvent) -> Prepared:
    notices = [notice(on_event, sentence) for sentence in request.notices]
    options, facts = request.options, request.facts
    saved = SavedPlan.load(folder.plan)
    restorers = Restorers.of(options, request.run)
    dtype = restorers.precision(request.run.dtype)
    on_event(Event(stage="load", message=f"model {options.model}"))
    wanted = request.execution(dtype)
    restorer = restorers(wanted)
    notices += [notice(on_event, sentence) for sentence in restorer.notices]
    fingerprint = (
        source_fingerprint(facts.path, facts.images)
        | {"device": restorers.device.type, "dtype": dtype, "codec used": request.codec.codec}
        | ({"compile": True} if restorers.compiles else {})
        | _models(options, restorers.identity(dtype))
        | options.to_json()
    )
    if saved is not None:
        require_same(saved.fingerprint, fingerprint, folder.path)
    else:
        found, fitting, _ = look_through(request, restorers, wanted, on_event)
        if replace(fitting, batches_guidance=False) != wanted:
            notices.append(notice(on_event, f"memory is short: {fitting.sentence()}"))
        needed = bytes_on_disk(facts, request.codec, size=request.size, num_frames=found.num_frames)
        require_space(folder.path, needed)
        saved = SavedPlan(
            fingerprint=fingerprint,
            survey=found,
            execution=fitting,
            prompts=caption_shots(
                facts,
                found,
                options,
                device=restorers.device,
                as_prompt=restorers.model(fitting.dtype).as_prompt,
                on_event=on_event,
            ),
        )
        saved.save(folder.plan)
    notices += [notice(on_event, sentence) for sentence in saved.survey.notices]
    if saved.prompts and not any(saved.prompts):
        notices.append(notice(on_event, "no caption has a word that the model knows"))
    job = Job(
        facts=facts,
        read=options.read,
        plan=saved,
        folder=folder,
        segments=cut_segments(
            saved.survey.num_frames, saved.survey.shots, size=saved.execution.segment
        ),
        size=request.size,
        codec=request.codec,
        make_restorer=restorers,
        model_window=restorer.settings.window,
    )
    return Prepared(request=request, job=job, restorers=restorers, dtype=dtype, notices=notices)


def _models(options: UpscaleOptions, identity: dict[str, str]) -> dict[str, Any]:
    """Return what tells the models of this job from others; the plan keeps what captions said."""
    found: dict[str, Any] = {f"model {name}": value for name, value in identity.items()}
    if not identity["sha256"]:  # no legato.json lists its files
        found |= folder_fingerprint("model", find_folder(options.model))
    if options.restore.raft is not None:
        found["raft sha256"] = hash_file(options.restore.raft.expanduser())
    return found


def look_through(
    request: Request, restorers: Restorers, wanted: Execution, on_event: OnEvent
) -> tuple[Survey, Execution, int]:
    """Read the range once; return also a way of computing that fits into memory, and its bytes.

    Raises:
        InputError: nothing in range.
        ResourceError: memory does not suffice.
    """
    options, facts = request.options, request.facts
    found = survey(
        facts,
        read=options.read,
        start=options.start_seconds,
        end=options.end_seconds,
        on_event=on_event,
    )
    fitting, needed = fit_into_memory(
        restorers, wanted, facts, request.codec.codec, longest_shot=found.longest_shot
    )
    return found, fitting, needed
