"""`legato translate IN OUT --prompt WORDS`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import tyro

from legato.apps.arguments import SAMPLING_ALIASES, Flat, Input, Output, SamplingRun, parse
from legato.apps.computing import importing_torch
from legato.apps.interrupt import StopOnSignal
from legato.apps.progress import Reporter
from legato.apps.results import shortfalls, tell
from legato.errors import counted
from legato.pipelines.events import OnEvent, Stop
from legato.pipelines.report import TranslationReport
from legato.pipelines.timecode import format_time
from legato.pipelines.translate_options import TranslateOptions
from legato.pipelines.translation_request import examine


@dataclass(frozen=True, kw_only=True)
class TranslateRun(SamplingRun):
    """Where and how a video is translated."""

    offload: tyro.conf.Suppress[bool] = SamplingRun.offload
    """No flag: image models are in memory whole."""

    compile: tyro.conf.Suppress[bool] = SamplingRun.compile
    """No flag: what guides image models changes their blocks between steps."""


@dataclass(frozen=True, kw_only=True)
class TranslateCommand:
    """Give a video, a folder of images (frames of one video) or an image another look, as a prompt
    says. The same command again continues after an interruption.
    Short flags: --steps for --num-inference-steps, --guidance for --guidance-scale."""

    source: tyro.conf.Positional[Input]
    """What to read."""

    target: tyro.conf.Positional[Output]
    """What to write: a video by its suffix, an image, or (no suffix) a folder of PNG."""

    options: Flat[TranslateOptions] = field(default_factory=TranslateOptions)

    run: TranslateRun = field(default_factory=TranslateRun)

    json: bool = False
    """Print the report on standard output."""

    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(TranslateCommand, arguments, name="translate", aliases=SAMPLING_ALIASES)
    check(command)  # before torch and diffusers are imported, which takes seconds
    with importing_torch():
        import legato.pipelines.translate  # noqa: F401

    with StopOnSignal() as stop, Reporter(quiet=command.quiet) as reporter:
        report = perform(command, on_event=reporter, stop=stop)
    tell(report, summary, as_json=command.json)
    return 0


def check(command: TranslateCommand) -> None:
    """Refuse what cannot work, without torch.

    Raises:
        LegatoError: see `examine`.
    """
    examine(command.source, command.target, command.options, command.run)


def perform(command: TranslateCommand, *, on_event: OnEvent, stop: Stop) -> TranslationReport:
    """Give the video the look that the command asks for."""
    from legato.pipelines.translate import translate

    return translate(
        command.source,
        command.target,
        command.options,
        run=command.run,
        on_event=on_event,
        stop=stop,
    )


def summary(report: TranslationReport) -> str:
    """Return one line that says what was done."""
    parts = [
        f"{report.target}: {counted(report.frames_in, 'frame')} in, {report.frames_out} out",
        f"{counted(report.key_frames, 'key frame')} in "
        f"{counted(report.batches, 'batch', 'batches')}",
        f"in {format_time(report.seconds)}",
        *shortfalls(report),
    ]
    return ", ".join(parts)
