"""`legato compare A B OUT`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from legato.apps.arguments import Flat, parse
from legato.apps.results import print_json
from legato.evaluation.compare import CompareOptions, compare


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Show two videos together, and one row of their pixels over time.

    The smaller one is enlarged to the size of the larger. The picture lies beside the video, as
    NAME.profile.png: in it time runs downwards, and what flickers looks like a comb.
    """

    a: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="A")]]
    """The video on the left, such as the input."""

    b: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="B")]]
    """The video on the right, such as the output."""

    target: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="[OUT]")]] = Path(
        "compare.mp4"
    )
    """What to write."""

    options: Flat[CompareOptions] = field(default_factory=CompareOptions)

    json: bool = False
    """Print what was written as JSON."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(CompareCommand, arguments, name="compare")
    found = compare(command.a, command.b, command.target, command.options)
    for sentence in found.notices:
        sys.stderr.write(f"note: {sentence}\n")
    if command.json:
        print_json(asdict(found))
    else:
        sys.stdout.write(f"{found.video}: {found.num_frames} frames\n{found.profile}\n")
    return 0
