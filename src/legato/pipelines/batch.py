"""A folder of videos, one after another: a failing one is reported and the others go on."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from legato.errors import InputError, Interrupted, LegatoError
from legato.pipelines.events import OnEvent, Stop, ignore, never, notice
from legato.pipelines.output import require_no_loop
from legato.pipelines.report import Report, read_report, report_path
from legato.pipelines.run_options import RunOptions
from legato.pipelines.saved_plan import content_of, source_fingerprint
from legato.pipelines.upscale_options import UpscaleOptions
from legato.pipelines.workfolder import WorkFolder
from legato.video.codecs import FORMATS
from legato.video.container import list_images, natural_key

READ_ONLY_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mpg", "mpeg", "vob", "m2v", "mts", "m2ts", "mxf", "dv", "y4m", "ivf", "nut"),
        *("wmv", "asf", "flv", "f4v", "3gp", "3g2", "ogv", "ogm", "rm", "rmvb", "divx"),
        *("h264", "264", "hevc", "265"),
    )
)
FALLBACK_SUFFIX = ".mp4"  # for containers that are read but not written


@dataclass(kw_only=True)
class FolderReport:
    """What became of a folder's videos."""

    done: list[Report] = field(default_factory=list)
    failed: dict[str, LegatoError] = field(default_factory=dict)
    """What went wrong, by file."""


def is_folder_of_videos(source: Path) -> bool:
    """Tell whether a path is a folder that holds videos rather than the images of one video.

    Raises:
        InputError: it holds both.
    """
    if not source.is_dir():
        return False
    videos, images = list_videos(source), list_images(source)
    if videos and images:
        raise InputError(
            f"{source} holds {len(videos)} videos and {len(images)} images",
            why="it could be a folder of videos or the frames of one",
            fix="keep only one kind in the folder",
        )
    return bool(videos)


def refuse_folder_of_videos(source: Path) -> None:
    """Refuse several videos where one is meant.

    Raises:
        InputError: the source is one.
    """
    if is_folder_of_videos(source):
        raise InputError(
            f"{source} is a folder of videos",
            why="this makes one output from one video",
            fix="name one of them; only upscale takes them all",
        )


def list_videos(folder: Path) -> list[Path]:
    """Return the files of a folder that are named like videos, in natural order; no hidden ones."""
    known = READ_ONLY_SUFFIXES | set(FORMATS)
    files = (path for path in folder.iterdir() if path.suffix.lower() in known)
    return sorted((p for p in files if p.is_file() and not p.name.startswith(".")), key=natural_key)


def upscale_folder(
    source: Path | str,
    target: Path | str,
    options: UpscaleOptions | None = None,
    *,
    run: RunOptions | None = None,
    on_event: OnEvent = ignore,
    stop: Stop = never,
) -> FolderReport:
    """Upscale every video of a folder into another folder, under the same names.

    A container that cannot be written becomes an MP4. What is finished, as its report tells, is not
    done again; what stands there otherwise is left alone and counts as failed.

    Args:
        source: the folder of videos.
        target: the folder to write to; made if need be.
        options: see `upscale`.
        run: see `upscale`; reports go beside the outputs.
        on_event: told of progress and notices.
        stop: asked between segments.

    Raises:
        InputError: source or target cannot be used, or two videos would have one output.
        Interrupted: `stop` said so.
    """
    from legato.pipelines.upscale import upscale

    source, target, run = Path(source), Path(target), run or RunOptions()
    outputs = _outputs(source, target)
    if run.report is not None:
        raise InputError(
            f"report={run.report}",
            why="a folder of videos has a report for each of them",
            fix="leave it out: they lie beside the outputs",
        )
    report = FolderReport()
    for video, output in outputs.items():
        try:
            is_open = WorkFolder(output).has_delivered  # was killed before it had a report
            if output.exists() and not run.restart and not is_open:
                _require_same(video, output, options or UpscaleOptions())
                notice(on_event, f"{output.name} is there already: left as it is")
                continue
            report.done.append(
                upscale(video, output, options, run=run, on_event=on_event, stop=stop)
            )
        except Interrupted:
            raise
        except LegatoError as error:
            report.failed[video.name] = error
            notice(on_event, f"{video.name} failed: {error}")
    return report


def _require_same(video: Path, output: Path, options: UpscaleOptions) -> None:
    """Refuse to take a file for the output of the same job.

    Raises:
        InputError: its report is missing, or tells of another source or model or other options.
        ModelError: the model is missing.
    """
    from legato.models.folder import known_fingerprint
    from legato.models.spec import find_folder

    made = read_report(report_path(output)) or {}
    told = {
        "options": json.loads(json.dumps(options.to_json(), default=str)),
        "source_content": content_of(source_fingerprint(video)),  # it may have moved since
    }
    model = made.get("model")
    known = model.get("sha256") if isinstance(model, dict) else None
    is_same = known == known_fingerprint(find_folder(options.model))
    if not is_same or any(made.get(name) != value for name, value in told.items()):
        raise InputError(
            f"{output} is there already",
            why="it was made of another source, with another model or with other options, or is no "
            "output of this program",
            fix="name another folder, or make it anew with --restart",
        )


def _outputs(source: Path, target: Path) -> dict[Path, Path]:
    """Return each video's output.

    Raises:
        InputError: see `upscale_folder`.
    """
    require_no_loop(target)
    if target.exists() and (not target.is_dir() or target.samefile(source)):
        raise InputError(
            f"{target} cannot take the outputs",
            why="it is the input itself" if target.is_dir() else "it is a file",
            fix="name another folder",
        )
    if not target.absolute().parent.is_dir():
        raise InputError(
            f"{target.absolute().parent}: no such folder",
            why="the output folder goes there",
            fix="make it first",
        )
    outputs: dict[Path, Path] = {}
    for video in list_videos(source):
        suffix = video.suffix if video.suffix.lower() in FORMATS else FALLBACK_SUFFIX
        output = target / f"{video.stem}{suffix}"
        if output in outputs.values():
            raise InputError(
                f"two videos of {source} would become {output.name}",
                why="only their suffixes differ",
                fix="rename one of them",
            )
        outputs[video] = output
    target.mkdir(exist_ok=True)
    return outputs
