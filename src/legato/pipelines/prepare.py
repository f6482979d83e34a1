"""From a source and options to a job that can run; what must be refused is refused here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from legato.device import choose_device, choose_dtype
from legato.pipelines.caption import caption_shots
from legato.pipelines.events import Event, OnEvent, notice
from legato.pipelines.job import Job
from legato.pipelines.output import bytes_on_disk, require_report, require_space, require_target
from legato.pipelines.report import report_path
from legato.pipelines.restorers import Restorers, fit_into_memory
from legato.pipelines.run_options import RunOptions
from legato.pipelines.saved_plan import Execution, SavedPlan, source_fingerprint
from legato.pipelines.segments import cut_segments
from legato.pipelines.survey import Survey, survey
from legato.pipelines.upscale_options import UpscaleOptions, output_size, without_range
from legato.pipelines.workfolder import WorkFolder, working
from legato.video.codecs import CodecOptions, choose_codec, losses, segment_suffix
from legato.video.probe import VideoFacts, probe


@dataclass(kw_only=True)
class Request:
    """What was asked for, after the first look at the source."""

    facts: VideoFacts
    target: Path
    options: UpscaleOptions
    run: RunOptions
    codec: CodecOptions
    size: tuple[int, int]
    notices: list[str] = field(default_factory=list)

    def execution(self, dtype: str) -> Execution:
        """Return how the job would be computed if memory did not matter."""
        return Execution(
            tile=self.options.restore.tile,
            window=self.options.restore.window,
            segment=self.options.segment,
            dtype=dtype,
            offload=self.run.offload,
        )


@dataclass(kw_only=True)
class Prepared:
    """A job that can run, and what is known of it."""

    request: Request
    job: Job
    restorers: Restorers
    dtype: str
    notices: list[str]


def examine(source: Path, target: Path, options: UpscaleOptions, run: RunOptions) -> Request:
    """Look at source and target, and refuse what cannot work.

    Raises:
        DecodeError: the source holds no video or image.
        InputError: an option does not fit the source, or the target cannot be used.
    """
    source, target = Path(source), Path(target)
    facts = probe(source)
    notices = [*facts.notices, *options.read.notices(facts)]
    if facts.kind != "video" and (options.start is not None or options.end is not None):
        notices.append("start and end are ignored: images have no time")
        options = without_range(options)
    codec = choose_codec(target, options.output, facts)
    require_target(source, target, is_folder=codec.codec == "png" and facts.kind != "image")
    require_report(run.report or report_path(target))
    size = output_size(facts, options)
    notices += losses(codec, facts, size=size)
    if facts.has_alpha:
        notices.append("opacity is enlarged by itself, with a bicubic kernel")
    if facts.colour.transfer in (16, 18):
        notices.append("high dynamic range: restored as coded (PQ or HLG), its tags are kept")
    return Request(
        facts=facts,
        target=target,
        options=options,
        run=run,
        codec=codec,
        size=size,
        notices=notices,
    )


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
    device = choose_device(request.run.device)
    dtype = str(choose_dtype(request.run.dtype, device)).removeprefix("torch.")
    saved = SavedPlan.load(folder.plan)
    on_event(Event(stage="load", message=f"model {options.model}"))
    restorers = Restorers(model_name=options.model, options=options.restore, device=device)
    wanted = request.execution(dtype)
    restorer = restorers(wanted)
    fingerprint = (
        source_fingerprint(facts.path, facts.images)
        | {"device": device.type, "dtype": dtype, "codec used": request.codec.codec}
        | {f"model {name}": value for name, value in restorers.identity(dtype).items()}
        | options.to_json()
    )
    if saved is not None:
        saved.require_same(fingerprint, folder.path)
    else:
        found, fitting = _look_through(request, restorers, wanted, on_event)
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
                device=device,
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


def _look_through(
    request: Request, restorers: Restorers, wanted: Execution, on_event: OnEvent
) -> tuple[Survey, Execution]:
    """Read the range once, and choose a way of computing that fits into memory."""
    options, facts = request.options, request.facts
    found = survey(
        facts,
        read=options.read,
        start=options.start_seconds,
        end=options.end_seconds,
        on_event=on_event,
    )
    fitting, _ = fit_into_memory(
        restorers, wanted, facts, request.codec.codec, longest_shot=found.longest_shot
    )
    return found, fitting
