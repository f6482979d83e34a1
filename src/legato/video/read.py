"""Frames of a video, a folder of images or an image, streamed in presentation order."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from av.video.frame import VideoFrame

from legato.errors import DecodeError, counted
from legato.options import require_types
from legato.video.clock import LONGEST_SLIP, mend_times
from legato.video.colour import EXACT, ColourConverter, to_depth
from legato.video.decode import Picture, SeekError, decode_pictures, nominal_ticks
from legato.video.deinterlace import deinterlace
from legato.video.frame import Alpha, Frame, Pixels
from legato.video.images import read_image
from legato.video.probe import VideoFacts, probe

State = Literal["whole", "concealed", "repeated"]
"""Of a picture: as coded, restored by the decoder in part, or standing in for a lost one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How the input is read."""

    strict: bool = False
    """Stop at the first frame that cannot be decoded whole, or where frames are missing at the
    end. Default: the last good frame stands in, and is counted."""

    keep_interlaced: bool = False
    """Take interlaced frames as they are, both fields woven into one picture. Default: they are
    deinterlaced."""

    def __post_init__(self) -> None:
        require_types(self)

    def deinterlaces(self, facts: VideoFacts) -> bool:
        """Tell whether these frames are deinterlaced when read."""
        return facts.interlaced != "progressive" and not self.keep_interlaced

    def notices(self, facts: VideoFacts) -> list[str]:
        """Return what a user should know of how these frames are read."""
        if facts.interlaced == "progressive":
            return []
        became = "deinterlaced with bwdif"
        if self.keep_interlaced:
            became = "kept so; the output is marked progressive, its rows belong to no field"
        return [f"interlaced ({facts.interlaced} field first): {became}"]


DEFAULTS = ReadOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A frame, and what had to be mended in it."""

    frame: Frame
    concealed: bool = False
    rescaled: bool = False
    flattened: bool = False
    rounded: bool = False
    retimed: bool = False


@dataclass(slots=True, kw_only=True)
class ReadReport:
    """What had to be mended in the frames that were given out; filled in as they are."""

    num_frames: int = 0
    num_repeated: int = 0
    """Frames that could not be decoded and were replaced by the last good one."""
    num_concealed: int = 0
    """Frames that the decoder could restore only in part."""
    num_rescaled: int = 0
    """Frames of another size than the first, scaled to it."""
    num_flattened: int = 0
    """Images with opacity behind a first one without."""
    num_rounded: int = 0
    """Images of 16 bits behind a first one of 8."""
    num_retimed: int = 0
    """Frames whose presentation time was missing, doubled or went backwards."""

    seconds: Fraction = Fraction(0)
    """From the first frame's beginning to the last one's usual end."""
    longest_gap: Fraction = Fraction(0)
    """Seconds between the two neighbours that are furthest apart."""
    is_complete: bool = False
    """Whether the file was read from its first frame to its last."""

    def notices(self, facts: VideoFacts) -> list[str]:
        """Return one sentence for each kind of damage found so far."""
        counts = (
            (self.num_repeated, "could not be decoded; the last good frame stands in"),
            (self.num_concealed, "are damaged; the decoder restored them in part"),
            (self.num_rescaled, f"have another size; scaled to {facts.width}x{facts.height}"),
            (self.num_flattened, "have opacity, which the first one has not: it is left out"),
            (self.num_rounded, "have 16 bits, of which the first one has 8: rounded to these"),
            (self.num_retimed, "had no usable time; times were filled in"),
        )
        found = [f"{n} of {self.num_frames} frames {what}" for n, what in counts if n]
        missing = self.missing_at_end(facts)
        if missing:
            found.append(
                f"the file ends early: about {counted(missing, 'frame')} missing at its end"
            )
        return found

    def count(self, reading: _Reading) -> None:
        """Add one frame and what had to be mended in it."""
        self.num_frames += 1
        self.num_repeated += reading.frame.repeated
        self.num_concealed += reading.concealed
        self.num_rescaled += reading.rescaled
        self.num_flattened += reading.flattened
        self.num_rounded += reading.rounded
        self.num_retimed += reading.retimed

    def missing_at_end(self, facts: VideoFacts) -> int:
        """Estimate how many frames a truncated file lacks; 0 where nothing tells of a loss."""
        promised, estimate = facts.promised_seconds, facts.num_frames_estimate
        if not self.is_complete or promised is None:
            return 0
        lacking = promised - self.seconds
        if lacking <= max(self.longest_gap, 1 / facts.frame_rate):  # a last frame shown for long
            return 0
        if estimate is None:
            return round(lacking * facts.frame_rate)
        return max(0, estimate - self.num_frames)


def read_frames(
    path: Path,
    *,
    facts: VideoFacts | None = None,
    options: ReadOptions = DEFAULTS,
    start_pts: int | None = None,
    stop_pts: int | None = None,
    report: ReadReport | None = None,
) -> Iterator[Frame]:
    """Yield every frame in presentation order; never more than a few are in memory.

    Unless the options say otherwise, interlaced material is deinterlaced (bwdif, as many frames out
    as in), and frames that cannot be decoded are replaced by the last good one (`repeated=True`);
    lost ones before the first good one, by that.

    Args:
        path: a video, an image or a folder of images.
        facts: what `probe(path)` returned, to save probing again.
        options: how to read.
        start_pts: yield only frames with `pts >= start_pts`, the same bit for bit as when read
            from the start. Seeks to a keyframe where `facts.seekable`.
        stop_pts: yield only frames with `pts < stop_pts`.
        report: filled with what had to be mended in the frames that are yielded.

    Raises:
        DecodeError: there is no frame to be had, or a frame is lost and the options are strict.
    """
    path = Path(path)
    facts = facts or probe(path)
    report = report if report is not None else ReadReport()
    if facts.kind == "video":
        readings = _video_frames(_VideoReader(path, facts, options), start_pts)
    else:
        readings = _image_frames(facts)
    first = last = None
    for reading in readings:
        frame = reading.frame
        if stop_pts is not None and frame.pts >= stop_pts:
            return
        if start_pts is None or frame.pts >= start_pts:
            if options.strict and frame.repeated:
                raise _lost(path, f"the frame at {float(frame.time):.3f} s is damaged")
            first = frame.time if first is None else first
            report.seconds = frame.time - first + 1 / facts.frame_rate
            if last is not None:
                report.longest_gap = max(report.longest_gap, frame.time - last)
            last = frame.time
            report.count(reading)
            yield frame
    report.is_complete = start_pts is None
    missing = report.missing_at_end(facts)
    if options.strict and missing:
        raise _lost(path, f"about {counted(missing, 'frame')} missing at its end")


def _lost(path: Path, what: str) -> DecodeError:
    return DecodeError(
        f"{path}: {what}",
        why="strict reading puts nothing in the place of a lost frame",
        fix="copy the file again, or leave out --strict: the last good frame then stands in",
    )


def read_times(path: Path, *, facts: VideoFacts | None = None) -> Iterator[Fraction]:
    """Yield the presentation time of every frame that `read_frames` would yield, in seconds."""
    path = Path(path)
    facts = facts or probe(path)
    if facts.kind == "video":
        reader = _VideoReader(path, facts, DEFAULTS)
        for _, pts, _ in reader.timed_pictures(start_pts=None):
            yield pts * facts.time_base
    else:
        for index in range(len(facts.images) or 1):
            yield index * facts.time_base


def _video_frames(reader: "_VideoReader", start_pts: int | None) -> Iterator[_Reading]:
    """Yield frames from a safe keyframe on, or from the start where there is none."""
    if start_pts is not None and reader.facts.seekable:
        readings = reader.readings(start_pts=start_pts)
        try:
            first = next(readings, None)
        except (SeekError, DecodeError):
            first = None
        if first is not None:
            yield first
            yield from readings
            return
    yield from reader.readings(start_pts=None)


class _VideoReader:
    """One pass over a video stream: decode, deinterlace, mend times, convert to RGB."""

    def __init__(self, path: Path, facts: VideoFacts, options: ReadOptions) -> None:
        self.path, self.facts, self.options = path, facts, options
        self.converter = ColourConverter()

    def timed_pictures(
        self, *, start_pts: int | None
    ) -> Iterator[tuple[tuple[VideoFrame, State], int, bool]]:
        """Yield each picture with its state, its time, and whether that was mended."""
        pictures = self._stand_ins(decode_pictures(self.path, self.facts, start_pts=start_pts))
        if self.options.deinterlaces(self.facts):
            pictures = deinterlace(
                pictures, order=self.facts.interlaced, is_flagged=self.facts.flags_fields
            )
        return mend_times(
            (((picture, state), pts) for picture, (pts, state) in pictures),
            nominal=nominal_ticks(self.facts),
            longest_slip=round(LONGEST_SLIP / self.facts.time_base),
        )

    def readings(self, *, start_pts: int | None) -> Iterator[_Reading]:
        """Yield the pictures as RGB; those before `start_pts` may be among them."""
        previous: Frame | None = None
        for (picture, state), pts, retimed in self.timed_pictures(start_pts=start_pts):
            if state == "repeated" and previous is not None:
                pixels, alpha = previous.pixels, previous.alpha
            else:
                pixels, alpha = self._to_rgb(picture)
            previous = Frame(
                pixels=pixels,
                alpha=alpha,
                pts=pts,
                time_base=self.facts.time_base,
                repeated=state == "repeated",
            )
            yield _Reading(
                frame=previous,
                concealed=state == "concealed",
                rescaled=state != "repeated" and not self._fits(picture),
                retimed=retimed,
            )

    def _stand_ins(
        self, pictures: Iterator[Picture]
    ) -> Iterator[tuple[VideoFrame, tuple[int | None, State]]]:
        """Put the last good picture where one was lost; the first good one before it."""
        last: VideoFrame | None = None
        lost_at_start: list[int | None] = []
        for picture in pictures:
            is_whole = picture.frame is not None and not picture.frame.is_corrupt
            if picture.frame is not None and (is_whole or not self.options.strict):
                last = picture.frame
                for pts in lost_at_start:
                    yield last, (pts, "repeated")
                lost_at_start.clear()
                yield last, (picture.pts, "whole" if is_whole else "concealed")
            elif last is not None:
                yield last, (picture.pts, "repeated")
            else:
                lost_at_start.append(picture.pts)
        if last is None:
            raise DecodeError(
                f"{self.path}", why="no frame can be decoded", fix="check that the file plays"
            )

    def _to_rgb(self, picture: VideoFrame) -> tuple[Pixels, Alpha | None]:
        facts = self.facts
        if not self._fits(picture):
            picture = picture.reformat(
                width=facts.width, height=facts.height, interpolation=EXACT, threads=1
            )
        pixels, alpha = self.converter.to_rgb(picture, facts.colour)
        deep = facts.bit_depth > 8
        pixels = to_depth(pixels, deep=deep)
        return pixels, to_depth(alpha, deep=deep) if facts.has_alpha and alpha is not None else None

    def _fits(self, picture: VideoFrame) -> bool:
        return (picture.width, picture.height) == (self.facts.width, self.facts.height)


def _image_frames(facts: VideoFacts) -> Iterator[_Reading]:
    """Yield a folder's images, or one image, at one size and depth; `pts` is the index."""
    lost: list[int] = []
    last: tuple[Pixels, Alpha | None] | None = None
    mended: dict[str, bool] = {}
    for index, path in enumerate(facts.images or (facts.path,)):
        try:
            image = read_image(path)
        except DecodeError:
            lost.append(index)
        else:
            mended = _differences(image, facts)
            last = _at_facts(image, facts)
        if last is not None:
            pixels, alpha = last
            for pts in [*lost, *([] if index in lost else [index])]:
                frame = Frame(
                    pixels=pixels,
                    alpha=alpha,
                    pts=pts,
                    time_base=facts.time_base,
                    repeated=pts in lost,
                )
                yield _Reading(frame=frame, **({} if frame.repeated else mended))
            lost.clear()
    if last is None:
        raise DecodeError(f"{facts.path}", why="no image can be decoded", fix="check the files")


def _differences(image: tuple[Pixels, Alpha | None], facts: VideoFacts) -> dict[str, bool]:
    """Return what an image loses or changes when it becomes as the facts say, by `_Reading`."""
    pixels, alpha = image
    is_see_through = alpha is not None and bool((alpha < np.iinfo(alpha.dtype).max).any())
    return {
        "rescaled": pixels.shape[:2] != (facts.height, facts.width),
        "flattened": is_see_through and not facts.has_alpha,
        "rounded": pixels.dtype == np.uint16 and facts.bit_depth <= 8,
    }


def _at_facts(
    image: tuple[np.ndarray, np.ndarray | None], facts: VideoFacts
) -> tuple[Pixels, Alpha | None]:
    """Return an image of any size and depth at that of the facts."""
    pixels, alpha = image
    size = (facts.width, facts.height)
    if (pixels.shape[1], pixels.shape[0]) != size:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
        alpha = None if alpha is None else cv2.resize(alpha, size, interpolation=cv2.INTER_CUBIC)
    deep = facts.bit_depth > 8
    if facts.has_alpha and alpha is None:
        alpha = np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max, pixels.dtype)
    kept = to_depth(alpha, deep=deep) if facts.has_alpha and alpha is not None else None
    return to_depth(pixels, deep=deep), kept
