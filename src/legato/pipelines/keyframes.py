"""Which frames of a shot are computed, and which of them together.

Yang et al. 2024 (FRESCO), arXiv:2403.12962, section 3.5 and algorithm 1. Pure planning: frames only
enter through how much each differs from the one before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from legato.errors import InputError
from legato.options import require_types

SHORT_SIDE_PX, MULTIPLE_PX = 512, 64
BLUR_PX = 9
SMALLEST_BATCH = 3
"""Frames of a batch: two anchors and a new one."""
FEWEST_NEW = 3
"""New frames that the last batch gets, where the one before can spare them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyframeOptions:
    """How far key frames are apart.

    Raises:
        InputError: the interval is empty or does not advance.
    """

    min_interval: int = 5
    """Frames from one key frame to the next at least."""

    max_interval: int = 20
    """Frames at most; kept where it is twice the least interval or more."""

    def __post_init__(self) -> None:
        require_types(self)
        if not 1 <= self.min_interval <= self.max_interval:
            raise InputError(
                f"key frames {self.min_interval} to {self.max_interval} frames apart",
                why="the least interval is 1 or more, and not above the greatest",
                fix="use for example 5 and 20",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Key frames that are computed together."""

    frames: tuple[int, ...]
    """Their indices in the shot, ascending."""
    num_anchors: int
    """So many of them, from the first, are known from earlier batches: 0 or 2."""

    @property
    def new(self) -> tuple[int, ...]:
        """The frames that this batch emits."""
        return self.frames[self.num_anchors :]


def measure_changes(frames: Iterable[UInt8[ndarray, "H W 3"]]) -> Float[ndarray, "T"]:
    """Return how much each frame differs from the one before: mean square in [-1, 1]; first 0.

    Frames are brought to a short side of 512 pixels and blurred over 9x9 first; one is held.
    """
    changes: list[float] = []
    before: UInt8[ndarray, "h w 3"] | None = None
    for frame in frames:
        now = _blurred(frame)
        if before is None:
            changes.append(0.0)
        else:
            squares = cv2.norm(now, before, cv2.NORM_L2SQR)
            changes.append(squares / now.size / 127.5**2)
        before = now
    return np.array(changes, dtype=np.float64)


def _blurred(frame: UInt8[ndarray, "H W 3"]) -> UInt8[ndarray, "h w 3"]:
    shrink = SHORT_SIDE_PX / min(frame.shape[:2])
    rows, cols = (
        max(1, round(side * shrink / MULTIPLE_PX)) * MULTIPLE_PX for side in frame.shape[:2]
    )
    how = cv2.INTER_LANCZOS4 if shrink > 1 else cv2.INTER_AREA
    sized = cv2.resize(frame, (cols, rows), interpolation=how)
    return np.asarray(cv2.GaussianBlur(sized, (BLUR_PX, BLUR_PX), 0))


def select_keyframes(changes: Float[ndarray, "T"], options: KeyframeOptions) -> list[int]:
    """Return the indices of a shot's key frames, ascending: where most changes, evenly enough.

    From the first and the last frame on, while an interval is too long, the frame of the largest
    change that is far enough from every key frame is added (algorithm 1). Equal intervals give
    every n-th frame from the first; frames behind the last one follow it alone.

    Args:
        changes: from `measure_changes`; one value per frame of the shot.
        options: how far apart.
    """
    num_frames, near = len(changes), options.min_interval
    if near == options.max_interval:
        return list(range(0, num_frames, near))
    keys = sorted({0, num_frames - 1} if num_frames else ())
    left = changes.astype(np.float64).copy()
    left[:near] = left[max(0, num_frames - near) :] = -1
    while len(keys) > 1 and max(np.diff(keys)) > options.max_interval:
        best = int(left.argmax())
        if left[best] < 0:
            break
        keys = sorted([*keys, best])
        left[best - near : best + near] = -1
    return keys


def plan_batches(keys: Sequence[int], size: int) -> list[Batch]:
    """Share key frames out to batches that hold on to one another.

    The first batch takes `size` of them; each later one the very first and the last of the batch
    before as anchors, and size - 2 new ones. A last batch with fewer than three new frames
    takes over some of the one before, if that keeps as many.

    Differs: a batch never exceeds its size, and fewer than three key frames are one batch; the
    released code exceeds it, or fails.

    Args:
        keys: indices of key frames, ascending.
        size: frames per batch.

    Raises:
        InputError: a batch has no room for two anchors and a new frame.
    """
    if size < SMALLEST_BATCH:
        raise InputError(
            f"batches of {size} frames",
            why="each holds two anchors and at least one new frame",
            fix=f"use {SMALLEST_BATCH} or more",
        )
    if not keys:
        return []
    stops = [min(size, len(keys))]
    while stops[-1] < len(keys):
        stops.append(min(stops[-1] + size - 2, len(keys)))
    if len(stops) > 1:
        before = stops[-3] if len(stops) > 2 else 2  # the first two serve as anchors
        new = stops[-1] - stops[-2]
        wanted = min(FEWEST_NEW, (stops[-1] - before) // 2)
        stops[-2] -= max(0, wanted - new)
    first = Batch(frames=tuple(keys[: stops[0]]), num_anchors=0)
    return [first] + [
        Batch(frames=(keys[0], keys[start - 1], *keys[start:stop]), num_anchors=2)
        for start, stop in pairwise(stops)
    ]
