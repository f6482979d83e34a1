"""Pass 0: the chosen range is read once for its times, shots and damage."""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from legato.errors import InputError
from legato.pipelines.events import Event, OnEvent
from legato.video.frame import Frame
from legato.video.probe import VideoFacts
from legato.video.read import ReadOptions, ReadReport, read_frames
from legato.video.shots import ShotDetector

SMALL_COLS = 160  # enough to see a cut, and cheap


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What must be known of a range before its first segment is computed."""

    pts: tuple[int, ...]
    """Presentation time of every frame, in ticks of the stream."""

    shots: tuple[int, ...]
    """Index of each shot's first frame; the first is 0."""

    detail: tuple[float, ...]
    """Mean absolute Laplacian of each frame's small luma, in 8-bit units."""

    num_repeated: int
    """Frames that could not be decoded and repeat the one before."""

    start: Fraction | None
    """Beginning of the range in seconds of the stream's own clock; None: the whole video."""

    end: Fraction | None
    notices: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """Frames in the range."""
        return len(self.pts)

    @property
    def longest_shot(self) -> int:
        """Frames of the longest shot."""
        return max(stop - first for first, stop in pairwise([*self.shots, self.num_frames]))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "pts": self.pts,
            "shots": self.shots,
            "detail": [round(value, 3) for value in self.detail],
            "num_repeated": self.num_repeated,
            "start": None if self.start is None else str(self.start),
            "end": None if self.end is None else str(self.end),
            "notices": self.notices,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Survey":
        """Return the survey that `to_json` described."""
        return cls(
            pts=tuple(data["pts"]),
            shots=tuple(data["shots"]),
            detail=tuple(data["detail"]),
            num_repeated=data["num_repeated"],
            start=None if data["start"] is None else Fraction(data["start"]),
            end=None if data["end"] is None else Fraction(data["end"]),
            notices=tuple(data["notices"]),
        )


def survey(
    facts: VideoFacts,
    *,
    read: ReadOptions,
    start: Fraction | None,
    end: Fraction | None,
    on_event: OnEvent,
) -> Survey:
    """Read the frames with `start <= time < end` once; only small pictures are kept, briefly.

    Args:
        facts: of the source.
        read: how to read it.
        start: seconds after the first frame; None: from the beginning.
        end: seconds after the first frame; None: to the last one.
        on_event: told how many frames were read.

    Raises:
        InputError: the range holds no frame.
        DecodeError: no frame can be decoded, or one cannot and `read` is strict.
    """
    start, end = _on_the_streams_clock(facts, start, end)
    detector, report = ShotDetector(), ReadReport()
    frames = read_frames(
        facts.path,
        facts=facts,
        options=read,
        start_pts=None if start is None else math.ceil(start / facts.time_base),
        stop_pts=None if end is None else math.ceil(end / facts.time_base),
        report=report,
    )
    pts: list[int] = []
    detail: list[float] = []
    num_repeated = 0
    for frame in frames:
        picture = small_picture(frame)
        detector.feed(len(pts), picture)
        pts.append(frame.pts)
        detail.append(_detail(picture))
        num_repeated += frame.repeated
        on_event(Event(stage="survey", done=len(pts), total=facts.num_frames_estimate))
    if not pts:
        raise _no_frame(facts)
    return Survey(
        pts=tuple(pts),
        shots=(0, *detector.cuts()),
        detail=tuple(detail),
        num_repeated=num_repeated,
        start=start,
        end=end,
        notices=tuple(report.notices(facts)),
    )


def require_start(facts: VideoFacts, read: ReadOptions, start: Fraction | None) -> None:
    """Refuse a range that begins behind the last frame, at once where the file is indexed.

    Args:
        facts: of the source; it may tell too short a duration, which frames behind it disprove.
        read: how to read it.
        start: seconds after the first frame; None: from the beginning.

    Raises:
        InputError: it does.
    """
    length = facts.duration_seconds
    if start is None or length is None or start < length:
        return
    begin, _ = _on_the_streams_clock(facts, start, None)
    assert begin is not None
    first = math.ceil(begin / facts.time_base)
    if (
        next(iter(read_frames(facts.path, facts=facts, options=read, start_pts=first)), None)
        is None
    ):
        raise _no_frame(facts)


def _no_frame(facts: VideoFacts) -> InputError:
    length = "" if facts.duration_seconds is None else f" of {float(facts.duration_seconds):g} s"
    return InputError(
        f"{facts.path}: no frame in the chosen range",
        why=f"the video{length} has none between start and end",
        fix="choose another --start or --end",
    )


def small_picture(frame: Frame) -> UInt8[np.ndarray, "h w 3"]:
    """Return the frame reduced by area to at most `SMALL_COLS` columns, 8 bits."""
    pixels = frame.pixels
    rows, cols = pixels.shape[:2]
    scale = min(1.0, SMALL_COLS / cols)
    size = (max(1, round(cols * scale)), max(1, round(rows * scale)))
    small: np.ndarray = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return small if small.dtype == np.uint8 else (small >> 8).astype(np.uint8)


def _detail(picture: UInt8[np.ndarray, "h w 3"]) -> float:
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(luma, cv2.CV_32F)).mean())


def _on_the_streams_clock(
    facts: VideoFacts, start: Fraction | None, end: Fraction | None
) -> tuple[Fraction | None, Fraction | None]:
    """Shift times counted from the first frame to the stream's clock, which may not begin at 0."""
    if start is None and end is None:
        return None, None
    origin = next(iter(read_frames(facts.path, facts=facts))).time
    shifted = origin + (start or 0)
    return shifted, None if end is None else origin + end
