"""`legato degrade IN OUT`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from legato.apps.arguments import Flat, Input, Output, parse
from legato.evaluation.damage import DegradeOptions, degrade


@dataclass(frozen=True, kw_only=True)
class DegradeCommand:
    """Damage clips and reduce them by four: blur, noise, JPEG and x264, the same every time.

    Each clip is held in memory as a whole. Rows and columns beyond a multiple of four are cut off.
    The same command again continues over a folder after an interruption.
    """

    source: tyro.conf.Positional[Input]
    """A clip, or a folder of clips: videos, or ROOT/CLIP/FRAME.png."""

    target: tyro.conf.Positional[Output]
    """An .mkv or (no suffix) a folder of PNG for one clip; a folder for several."""

    options: Flat[DegradeOptions]

    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    command = parse(DegradeCommand, arguments, name="degrade")
    written = degrade(
        command.source,
        command.target,
        command.options,
        on_clip=lambda name: None if command.quiet else _say(f"damaging {name}"),
        on_notice=lambda sentence: _say(f"note: {sentence}"),
    )
    for path in written:
        sys.stdout.write(f"{path}\n")
    return 0


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
