"""`legato verify IN OUT`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import tyro

from legato.apps.arguments import Input, Output, parse
from legato.apps.results import print_json
from legato.errors import InputError, counted
from legato.pipelines.report import read_range, read_report, report_path
from legato.video.conservation import verify

DIFFERS = 1


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Check that frames, times, size and streams of the input are all in the output.

    Exit code 0: all is there, but what is listed because the output's format cannot hold it;
    1: the differences are printed.
    """

    source: tyro.conf.Positional[Input]
    """The input of `upscale`."""

    target: tyro.conf.Positional[Output]
    """Its output."""

    report: Path | None = None
    """The report of the job, for its range. Default: beside the output, if there is one."""

    json: bool = False
    """Print the result as JSON."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(VerifyCommand, arguments, name="verify")
    if command.report is not None and read_report(command.report) is None:
        raise InputError(
            f"{command.report}",
            why="it is no report of a job",
            fix="name its JSON, or leave it out",
        )
    start, end = _ends(command.report or report_path(command.target))
    found = verify(command.source, command.target, start=start, end=end)
    if command.json:
        print_json(asdict(found))
    elif found.kept:
        kept = f"all of the input is in the output: {counted(found.num_frames_target, 'frame')}"
        sys.stdout.write("\n".join([f"{kept}, except" if found.notices else kept, *found.notices]))
        sys.stdout.write("\n")
    else:
        sys.stdout.write("\n".join(found.differences) + "\n")
    return 0 if found.kept else DIFFERS


def _ends(report: Path) -> tuple[Fraction | None, Fraction | None]:
    chosen = read_range(report) or {}
    try:
        start, end = (Fraction(chosen[e]) if e in chosen else None for e in ("start", "end"))
    except (ValueError, TypeError, ArithmeticError) as error:
        raise InputError(
            f"{report}",
            why=f"the report is damaged: its range is {chosen}",
            fix="name another with --report, or remove it",
        ) from error
    return start, end
