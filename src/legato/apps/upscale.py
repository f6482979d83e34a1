"""`legato upscale IN OUT`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import tyro

from legato.apps.arguments import SAMPLING_ALIASES, Flat, Input, Output, parse
from legato.apps.cli import exit_code
from legato.apps.computing import importing_torch
from legato.apps.interrupt import StopOnSignal
from legato.apps.progress import Reporter
from legato.apps.results import print_json, shortfalls, tell
from legato.errors import counted
from legato.pipelines.batch import is_folder_of_videos, upscale_folder
from legato.pipelines.events import OnEvent, Stop
from legato.pipelines.output import picture_path, preview_path
from legato.pipelines.report import Report
from legato.pipelines.request import examine
from legato.pipelines.run_options import RunOptions
from legato.pipelines.timecode import format_time
from legato.pipelines.upscale_options import UpscaleOptions


@dataclass(frozen=True, kw_only=True)
class UpscaleCommand:
    """Restore and enlarge a video, a folder of images (frames of one video), a folder of videos, or
    an image. The same command again continues after an interruption.
    Short flags: --steps for --num-inference-steps, --guidance for --guidance-scale."""

    source: tyro.conf.Positional[Input]
    """What to read."""

    target: tyro.conf.Positional[Output]
    """What to write: a video by its suffix, an image, or (no suffix) a folder of PNG."""

    options: Flat[UpscaleOptions] = field(default_factory=UpscaleOptions)

    run: RunOptions = field(default_factory=RunOptions)

    preview: bool = False
    """Render about two seconds only, to NAME_preview beside the output, and a picture that shows
    them beside the input."""

    json: bool = False
    """Print the report on standard output."""

    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(UpscaleCommand, arguments, name="upscale", aliases=SAMPLING_ALIASES)
    is_folder = is_folder_of_videos(command.source) and not command.preview
    if not is_folder:  # refuse before torch and diffusers are imported, which takes seconds
        check(command)
    with importing_torch():
        import legato.pipelines.preview  # noqa: F401

    if is_folder:
        return _run_folder(command)
    with StopOnSignal() as stop, Reporter(quiet=command.quiet) as reporter:
        report = perform(command, on_event=reporter, stop=stop)
    tell(report, summary, as_json=command.json)
    if command.preview and not command.json:
        sys.stdout.write(f"{picture_path(command.target)}\n")
    return 0


def check(command: UpscaleCommand) -> None:
    """Refuse what cannot work, without torch.

    Raises:
        LegatoError: see `examine`.
    """
    target = preview_path(command.target) if command.preview else command.target
    examine(command.source, target, command.options, command.run)


def perform(command: UpscaleCommand, *, on_event: OnEvent, stop: Stop) -> Report:
    """Do what the command says with one video or image."""
    from legato.pipelines.preview import preview
    from legato.pipelines.upscale import upscale

    work = preview if command.preview else upscale
    return work(
        command.source,
        command.target,
        command.options,
        run=command.run,
        on_event=on_event,
        stop=stop,
    )


def _run_folder(command: UpscaleCommand) -> int:
    """Upscale a folder of videos; the exit code is that of the first failure."""

    with StopOnSignal() as stop, Reporter(quiet=command.quiet) as reporter:
        found = upscale_folder(
            command.source,
            command.target,
            command.options,
            run=command.run,
            on_event=reporter,
            stop=stop,
        )
    if command.json:
        failed = {name: str(error) for name, error in found.failed.items()}
        print_json({"done": [r.to_json() for r in found.done], "failed": failed})
    else:
        for report in found.done:
            tell(report, summary, as_json=False)
    for name, error in found.failed.items():
        sys.stderr.write(f"error: {name}: {' '.join(str(error).split())}\n")
    return next((exit_code(error) for error in found.failed.values()), 0)


def summary(report: Report) -> str:
    """Return one line that says what was done."""
    (width, height), (new_width, new_height) = report.size_in, report.size_out
    speed = f" ({report.frames_per_second:.3g} frames/s)" if report.frames_per_second else ""
    parts = [
        f"{report.target}: {counted(report.frames_in, 'frame')} in, {report.frames_out} out",
        f"{width}x{height} -> {new_width}x{new_height}",
        f"in {format_time(report.seconds)}{speed}",
        *shortfalls(report),
    ]
    return ", ".join(parts)
