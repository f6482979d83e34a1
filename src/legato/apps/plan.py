"""`legato plan IN`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from legato.apps.arguments import SAMPLING_ALIASES, Flat, Input, parse
from legato.apps.computing import importing_torch
from legato.apps.progress import Reporter
from legato.apps.results import tell
from legato.errors import counted
from legato.pipelines.events import OnEvent
from legato.pipelines.run_options import RunOptions
from legato.pipelines.timecode import format_time
from legato.pipelines.upscale_options import UpscaleOptions
from legato.video.atomic import said_bytes

if TYPE_CHECKING:
    from legato.pipelines.forecast import Forecast


@dataclass(frozen=True, kw_only=True)
class PlanCommand:
    """Say what `upscale` with the same flags would need, measured on a few frames of the video."""

    source: tyro.conf.Positional[Input]
    """What would be read."""

    target: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="[OUT]")]] = None
    """Where the output would go. Default: an MP4 beside the input."""

    options: Flat[UpscaleOptions] = field(default_factory=UpscaleOptions)

    run: RunOptions = field(default_factory=RunOptions)

    json: bool = False
    """Print the numbers as JSON."""

    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(PlanCommand, arguments, name="plan", aliases=SAMPLING_ALIASES)
    with importing_torch():
        import legato.pipelines.forecast  # noqa: F401

    with Reporter(quiet=command.quiet) as reporter:
        found = perform(command, on_event=reporter)
    tell(found, describe, as_json=command.json)
    return 0


def perform(command: PlanCommand, *, on_event: OnEvent) -> "Forecast":
    """Measure what the command asks about."""
    from legato.pipelines.forecast import plan

    return plan(command.source, command.target, command.options, run=command.run, on_event=on_event)


def describe(found: "Forecast") -> str:
    """Return the forecast as lines for people."""
    tile = "whole frames" if not found.tile else f"tiles of {found.tile}"
    guidance = ", guidance in one batch" if found.batches_guidance else ""
    parts = ", one part of the model in memory at a time" if found.offload else ""
    rows = {
        "frames": f"{found.frames} in {counted(found.shots, 'shot')}, "
        f"{counted(found.segments, 'segment')}, "
        f"{found.duration:.2f} s",
        "size": f"{found.size_in[0]}x{found.size_in[1]} -> {found.size_out[0]}x{found.size_out[1]}",
        "codec": found.codec,
        "device": f"{found.device}, {found.dtype}, {tile}{guidance}{parts}",
        "memory": f"{found.memory_bytes / 1e9:.2f} GB of "
        f"{found.memory_available_bytes / 1e9:.1f} GB available",
        "disk": f"{said_bytes(found.disk_bytes)} of {said_bytes(found.disk_free_bytes)} free",
        "time": f"{format_time(found.seconds)} ({1 / found.seconds_per_frame:.3g} frames/s, "
        f"measured on {counted(found.frames_measured, 'frame')})",
    }
    if found.frames_repeated:
        rows["damaged"] = f"{counted(found.frames_repeated, 'frame')} would repeat the one before"
    lines = [f"{name:<8} {text}" for name, text in rows.items()]
    return "\n".join([*lines, *(f"note     {sentence}" for sentence in found.notices)])
