"""Single frames of a long video, in one pass where they are asked for in order."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.pipelines.frame_buffer import FrameBuffer
from legato.pipelines.survey import Survey
from legato.video.frame import Frame
from legato.video.probe import VideoFacts
from legato.video.read import ReadOptions, read_frames


def frames_from(
    facts: VideoFacts, read: ReadOptions, survey: Survey, first: int
) -> Iterator[Frame]:
    """Decode the range from one of its frames on; the end of the range is the caller's to see.

    Args:
        facts: of the source.
        read: how to read it.
        survey: of the range.
        first: index in the range.
    """
    whole = survey.start is None and first == 0
    start = None if whole else survey.pts[first]
    return iter(read_frames(facts.path, facts=facts, options=read, start_pts=start))


def eight_bits(frame: Frame) -> UInt8[ndarray, "H W 3"]:
    """Return a frame's pixels as bytes."""
    pixels = frame.pixels
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


class KeyframeReader:
    """Hands out frames by their indices; those of the last request are kept for the next.

    Args:
        open_at: decodes the range from a frame on.
        pts: the time of every frame of the range, as surveyed.
    """

    def __init__(self, open_at: Callable[[int], Iterator[Frame]], pts: Sequence[int]) -> None:
        self._open_at, self._pts = open_at, pts
        self._held: dict[int, Frame] = {}
        self._buffer: FrameBuffer | None = None
        self._next = 0

    def take(self, indices: Sequence[int]) -> list[Frame]:
        """Return frames, ascending.

        Raises:
            DecodeError: the file no longer holds what was surveyed.
        """
        self._held = {index: self._held[index] for index in indices if index in self._held}
        for index in indices:
            if index not in self._held:
                self._held[index] = self._read(index)
        return [self._held[index] for index in indices]

    def _read(self, index: int) -> Frame:
        if self._buffer is None or index < self._next:
            self._buffer = FrameBuffer(self._open_at(index), self._pts, first=index)
        self._next = index + 1
        return self._buffer.take(index, index + 1)[0]
