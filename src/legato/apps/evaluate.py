"""`legato evaluate RESULTS [REFERENCES]`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from legato.apps.arguments import Flat, parse
from legato.evaluation.evaluate_options import NAME, EvaluateOptions


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Judge clips against references, or alone: tables, values and a page with pictures.

    Clips are ROOT/CLIP/FRAME.png or videos in a folder, paired by name without suffix; or one video
    or folder of images each. Written are evaluation.md, .json, .tex and .html. Short flag: -o.
    """

    results: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RESULTS")]]
    """The clips to judge."""

    references: tyro.conf.Positional[
        Annotated[Path | None, tyro.conf.arg(metavar="[REFERENCES]")]
    ] = None
    """The same clips as they should be. Default: only figures that need none."""

    out: Path = Path(NAME)
    """The folder to write to."""

    options: Flat[EvaluateOptions] = field(default_factory=EvaluateOptions)

    json: bool = False
    """Print all values as JSON instead of the table."""

    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(EvaluateCommand, arguments, name="evaluate", aliases={"-o": "--out"})
    from legato.evaluation.evaluate import evaluate
    from legato.evaluation.summary import to_json, to_markdown

    found = evaluate(
        command.results,
        command.references,
        command.out,
        command.options,
        on_clip=lambda name: None if command.quiet else _say(name),
    )
    sys.stdout.write((to_json(found) if command.json else to_markdown(found)) + "\n")
    if not command.quiet:
        sys.stderr.write(f"written: {command.out / NAME}.md, .json, .tex and .html\n")
    return 0


def _say(name: str) -> None:
    sys.stderr.write(f"measuring {name}\n")
