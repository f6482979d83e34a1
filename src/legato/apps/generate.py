"""`legato generate PROMPT -o OUT`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from legato.apps.arguments import SAMPLING_ALIASES, Flat, SamplingRun, parse
from legato.apps.computing import importing_torch
from legato.apps.interrupt import StopOnSignal
from legato.apps.progress import Reporter
from legato.apps.results import tell
from legato.errors import counted
from legato.pipelines.events import OnEvent, Stop
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation_request import examine
from legato.pipelines.report import GenerationReport
from legato.pipelines.timecode import format_time
from legato.video.atomic import said_bytes

if TYPE_CHECKING:
    from legato.pipelines.generation_forecast import GenerationForecast


@dataclass(frozen=True, kw_only=True)
class GenerateRun(SamplingRun):
    """Where and how a video is generated."""

    offload: bool = SamplingRun.offload
    """Of --upsampler, keep only the part in memory that is at work, and read the other again when
    it is needed; chosen by itself where memory is short. The generating model is in memory
    whole."""

    compile: bool = SamplingRun.compile
    """Of --upsampler, compile the U-Net's blocks by torch.compile: minutes before its first frame;
    meant for GPUs and full-size models. The generating model is not compiled."""


@dataclass(frozen=True, kw_only=True)
class GenerateCommand:
    """Make a video from words, from a first frame, or from nothing. The same command again
    continues after an interruption.
    Short flags: --steps for --num-inference-steps, --guidance for --guidance-scale."""

    prompt: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[PROMPT]")]] = ""
    """What the video shows; a comma list of words where the model knows a closed vocabulary."""

    target: Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"])]
    """What to write: a video by its suffix, or (no suffix) a folder of PNG."""

    options: Flat[GenerateOptions] = field(default_factory=GenerateOptions)

    run: GenerateRun = field(default_factory=GenerateRun)

    plan: bool = False
    """Say what the video would need, measured on one denoising step of each kind; make nothing."""

    json: bool = False
    """Print the report, or the plan's numbers, on standard output."""

    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(GenerateCommand, arguments, name="generate", aliases=SAMPLING_ALIASES)
    check(command)  # before torch and diffusers are imported, which takes seconds
    with importing_torch():
        import legato.pipelines.generate  # noqa: F401

    if command.plan:
        return _plan(command)
    with StopOnSignal() as stop, Reporter(quiet=command.quiet) as reporter:
        report = perform(command, on_event=reporter, stop=stop)
    tell(report, summary, as_json=command.json)
    return 0


def check(command: GenerateCommand) -> None:
    """Refuse what cannot work, without torch.

    Raises:
        LegatoError: see `examine`.
    """
    examine(command.target, command.options, command.run)


def perform(command: GenerateCommand, *, on_event: OnEvent, stop: Stop) -> GenerationReport:
    """Make the video that the command asks for."""
    from legato.pipelines.generate import generate

    return generate(
        command.prompt,
        command.target,
        command.options,
        run=command.run,
        on_event=on_event,
        stop=stop,
    )


def forecast(command: GenerateCommand, *, on_event: OnEvent) -> "GenerationForecast":
    """Measure what the video would need."""
    from legato.pipelines.generation_forecast import plan_generation

    return plan_generation(
        command.prompt, command.target, command.options, run=command.run, on_event=on_event
    )


def _plan(command: GenerateCommand) -> int:
    with Reporter(quiet=command.quiet) as reporter:
        found = forecast(command, on_event=reporter)
    tell(found, describe, as_json=command.json)
    return 0


def describe(found: "GenerationForecast") -> str:
    """Return the plan as lines for people."""
    parts = ", ".join(f"{count} of {name}" for name, count in found.parts.items())
    stages = ", ".join(f"{format_time(s)} {name}" for name, s in found.seconds_of_stages.items())
    held = "not told by this system" if found.memory_bytes is None else _gb(found.memory_bytes)
    rows = {
        "frames": f"{found.frames} from {counted(found.key_frames, 'key frame')} in "
        f"{counted(found.calls, 'call')}, "
        f"{found.duration:.2f} s at {found.frame_rate} frames/s",
        "parts": parts,
        "size": f"{found.size[0]}x{found.size[1]}",
        "device": f"{found.device}, {found.dtype}",
        "memory": f"{held} of {_gb(found.memory_available_bytes)} available",
        "disk": f"{said_bytes(found.disk_bytes)} of {said_bytes(found.disk_free_bytes)} free",
        "time": f"{format_time(found.seconds)}: {stages}",
    }
    lines = [f"{name:<8} {text}" for name, text in rows.items()]
    return "\n".join([*lines, *(f"note     {sentence}" for sentence in found.notices)])


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def summary(report: GenerationReport) -> str:
    """Return one line that says what was done."""
    width, height = report.size
    return (
        f"{report.target}: {counted(report.frames, 'frame')} of {width}x{height} "
        f"from {counted(report.key_frames, 'key frame')}, {report.duration:.3g} s at "
        f"{report.frame_rate} frames/s, in {format_time(report.seconds)}"
    )
