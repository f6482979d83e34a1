"""Is everything of the input in the output: frames, times, size and streams?"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Conservation:
    """What was compared, and every difference found."""

    num_frames_source: int
    num_frames_target: int
    differences: tuple[str, ...]
    """One sentence per difference; empty: everything was kept."""

    @property
    def kept(self) -> bool:
        """Tell whether nothing differs."""
        return not self.differences


def verify(
    source: Path,
    target: Path,
    *,
    scale: Fraction | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> Conservation:
    """Compare frame count, frame times, exact size, streams and durations of two files.

    Times are compared after rounding to the target's time base.

    Args:
        source: the input.
        target: the output made from it.
        scale: output rows per input row; None: not compared, only the same for both axes.
        start: only the source's frames with `start <= time < end` were processed.
        end: see `start`.
    """
    raise NotImplementedError
