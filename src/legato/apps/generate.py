"""`legato generate PROMPT -o OUT`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from legato.apps.arguments import SAMPLING_ALIASES, parse
from legato.apps.computing import prepare_torch
from legato.apps.interrupt import StopOnSignal
from legato.apps.progress import Reporter
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.report import GenerationReport
from legato.pipelines.run_options import RunOptions
from legato.pipelines.timecode import format_time


@dataclass(frozen=True, kw_only=True)
class GenerateCommand:
    """Make a video from words, from a first frame, or from nothing. The same command again
    continues after an interruption.
    Short flags: --steps for --num-inference-steps, --guidance for --guidance-scale."""

    prompt: tyro.conf.Positional[str] = ""
    """What the video shows; a comma list of words where the model knows a closed vocabulary."""

    target: Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"])]
    """What to write: a video by its suffix, or (no suffix) a folder of PNG."""

    options: GenerateOptions = field(default_factory=GenerateOptions)

    run: RunOptions = field(default_factory=RunOptions)

    json: bool = False
    """Print the report on standard output."""

    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(GenerateCommand, arguments, name="generate", aliases=SAMPLING_ALIASES)
    prepare_torch()
    from legato.pipelines.generate import generate

    with StopOnSignal() as stop, Reporter(quiet=command.quiet) as reporter:
        report = generate(
            command.prompt,
            command.target,
            command.options,
            run=command.run,
            on_event=reporter,
            stop=stop,
        )
    text = json.dumps(report.to_json(), indent=1) if command.json else summary(report)
    sys.stdout.write(f"{text}\n")
    return 0


def summary(report: GenerationReport) -> str:
    """Return one line that says what was done."""
    width, height = report.size
    return (
        f"{report.target}: {report.frames} frames of {width}x{height} "
        f"from {report.key_frames} key frames, {report.duration:.3g} s at {report.frame_rate} "
        f"frames/s, in {format_time(report.seconds)}"
    )
