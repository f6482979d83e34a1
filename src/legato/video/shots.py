"""Where one shot ends and the next begins."""

from collections import deque

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

COLUMNS = 32  # small enough to average noise away
NEIGHBOURS = 2  # frames before and after a change that it must stand out from
SHORTEST_SHOT = 5  # frames
RETURNED = 0.5  # a change that is undone by more than half was a flash
NOMINAL_RATE = 25.0  # the detector counts frames; their times do not matter to it


class ShotDetector:
    """Finds cuts from small pictures of consecutive frames, whatever their rate.

    A cut is where PySceneDetect's adaptive detector sees a change in hue, saturation and
    brightness that stands out from its neighbours, unless the picture soon returns (a flash).
    """

    def __init__(self) -> None:
        self._detector = AdaptiveDetector(
            min_scene_len=SHORTEST_SHOT, window_width=NEIGHBOURS, min_content_val=15.0
        )
        self._first: int | None = None
        self._next = 0
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=2 * NEIGHBOURS + 1)
        self._cuts: list[int] = []

    def feed(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Look at the next frame in RGB, of any size; indices must follow one another."""
        if self._first is None:
            self._first = self._next = index
        if index != self._next:
            raise ValueError(f"frame {index} after frame {self._next - 1}")
        self._next += 1
        small = _shrink(picture)
        self._recent.append(small.astype(np.float32))
        code = FrameTimecode(index - self._first, NOMINAL_RATE)
        for cut in self._detector.process_frame(code, np.ascontiguousarray(small[..., ::-1])):
            if not self._is_flash(cut.frame_num + self._first):
                self._cuts.append(cut.frame_num + self._first)

    def cuts(self) -> list[int]:
        """Return the index of the first frame of each new shot; the first shot's is not listed."""
        return list(self._cuts)

    def _is_flash(self, cut: int) -> bool:
        """Tell whether the frames around a change resemble each other more than the change."""
        oldest = self._next - len(self._recent)
        at = cut - oldest
        if at < 1:
            return False
        before, new, after = self._recent[at - 1], self._recent[at], list(self._recent)[at + 1 :]
        change = _distance(before, new)
        comes_back = [_distance(before, later) for later in after]
        came_back = [_distance(self._recent[at - 2], new)] if at >= 2 else []
        return any(distance < RETURNED * change for distance in comes_back + came_back)


def _shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, cols = picture.shape[:2]
    if cols > COLUMNS:
        size = (COLUMNS, max(1, round(rows * COLUMNS / cols)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return picture


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.abs(a - b).mean())
