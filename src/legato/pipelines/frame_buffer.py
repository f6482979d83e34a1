"""Frames of consecutive segments from one pass over the file."""

from collections import deque
from collections.abc import Iterator, Sequence

from legato.errors import DecodeError
from legato.video.frame import Frame


class FrameBuffer:
    """Hands out ranges of frames that move forward, and reads every frame once.

    Args:
        frames: in presentation order.
        pts: the time of every frame of the range, as surveyed.
        first: index of the first frame that `frames` yields.
    """

    def __init__(self, frames: Iterator[Frame], pts: Sequence[int], *, first: int) -> None:
        self._frames = frames
        self._pts = pts
        self._first = first
        self._held: deque[Frame] = deque()

    def take(self, first: int, stop: int) -> list[Frame]:
        """Return the frames from `first` to before `stop`; earlier ones are forgotten.

        Raises:
            DecodeError: the file no longer holds what was surveyed.
        """
        while self._first < first and self._held:
            self._held.popleft()
            self._first += 1
        while self._first + len(self._held) < stop:
            index = self._first + len(self._held)
            frame = next(self._frames, None)
            if frame is None or frame.pts != self._pts[index]:
                found = "nothing" if frame is None else f"tick {frame.pts}"
                raise DecodeError(
                    f"frame {index} at tick {self._pts[index]} is not there any more",
                    why=f"{found} was found; the file changed, or its medium fails",
                    fix="check the file and repeat with --restart",
                )
            if index < first:
                self._first += 1
            else:
                self._held.append(frame)
        return list(self._held)[: stop - first]
