"""Shots cut into segments, the unit of saved work; no state crosses a cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Consecutive frames of one shot that are computed and saved together.

    All numbers are frame indices counted from the first frame of the chosen range.
    """

    index: int
    first: int
    stop: int
    shot_first: int
    shot_stop: int

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def starts_shot(self) -> bool:
        """Whether no segment of the same shot comes before."""
        return self.first == self.shot_first

    def num_before(self, context: int) -> int:
        """Return how many of the frames before it may be looked at: at most `context`."""
        return min(context, self.first - self.shot_first)

    def num_after(self, context: int) -> int:
        """Return how many of the frames after it may be looked at: at most `context`."""
        return min(context, self.shot_stop - self.stop)


def cut_segments(num_frames: int, shot_starts: Sequence[int], *, size: int) -> list[Segment]:
    """Cut every shot into segments of `size` frames; a shot's last one may be shorter.

    The grid begins with the shot, so that another `--end` leaves all earlier segments as they are.

    Args:
        num_frames: in the chosen range.
        shot_starts: first frame of each shot, strictly increasing, beginning with 0.
        size: frames in a segment, at least 1.
    """
    segments: list[Segment] = []
    for shot_first, shot_stop in pairwise([*shot_starts, num_frames]):
        for first in range(shot_first, shot_stop, size):
            segments.append(
                Segment(
                    index=len(segments),
                    first=first,
                    stop=min(first + size, shot_stop),
                    shot_first=shot_first,
                    shot_stop=shot_stop,
                )
            )
    return segments
