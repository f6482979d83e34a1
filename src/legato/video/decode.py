"""Packets to pictures: a stream decoded in presentation order, its losses made explicit."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from legato.video.container import open_container
from legato.video.probe import VideoFacts

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders drop the opacity
ONE_PICTURE_EACH = {"h264", "hevc", "mjpeg", "prores", "ffv1", "png", "dnxhd", "huffyuv", "utvideo"}
MAX_READ_ERRORS = 20  # in a row, before the rest of a damaged file is given up
SEEK_MARGIN_FRAMES = 4  # deinterlacing looks at neighbours


class SeekError(Exception):
    """The position reached is no safe place to start decoding from."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture with the raw time of its packet; None for one that was lost."""

    frame: VideoFrame | None
    pts: int | None


def decode_pictures(
    path: Path, facts: VideoFacts, *, start_pts: int | None = None
) -> Iterator[Picture]:
    """Yield the pictures of the facts' stream in presentation order.

    A packet that cannot be decoded yields a `Picture` without a frame in its place. One thread
    decodes: concealment of damage is then the same every time.

    Args:
        path: the file.
        facts: its facts.
        start_pts: begin at the last keyframe that lies safely before this raw time.

    Raises:
        SeekError: decoding from there would not give the same pictures as from the start.
    """
    with open_container(path) as container:
        stream = container.streams[facts.stream_index]
        assert isinstance(stream, VideoStream)
        if start_pts is not None:
            if not _goes_forward(path, facts.stream_index, path.stat().st_mtime_ns):
                raise SeekError
            _seek(container, stream, start_pts, margin=nominal_ticks(facts) * SEEK_MARGIN_FRAMES)
        decoder = _decoder(stream, facts)
        strict = facts.codec in ONE_PICTURE_EACH and facts.interlaced == "progressive"
        losses = _Losses(sought=start_pts, strict=strict)
        yield from losses.follow(read_packets(container, stream), decoder)


def nominal_ticks(facts: VideoFacts) -> int:
    """Return the usual distance of two frames in ticks, at least 1."""
    return max(1, round(1 / (Fraction(facts.frame_rate) * facts.time_base)))


def _seek(container: InputContainer, stream: VideoStream, pts: int, *, margin: int) -> None:
    try:
        container.seek(pts - margin, stream=stream, backward=True)
    except (av.error.FFmpegError, OSError) as error:
        raise SeekError from error


@lru_cache(maxsize=8)
def _goes_forward(path: Path, stream_index: int, changed: int) -> bool:
    """Tell whether every group of pictures lies behind the one before, by the packets' times.

    Where one does not, times are mended from there on, and only who reads from the start knows how.

    Args:
        path: the file; its packets are read once, and not decoded.
        stream_index: of the video stream.
        changed: when the file was, so that another file of that name counts anew.
    """
    latest: int | None = None
    behind: int | None = None
    seen: set[int] = set()
    with open_container(path) as container:
        stream = container.streams[stream_index]
        assert isinstance(stream, VideoStream)
        for packet in read_packets(container, stream):
            if packet is None:
                continue
            if packet.is_keyframe:
                behind, seen = latest, set()
            if (
                packet.pts is None
                or packet.pts in seen
                or (behind is not None and packet.pts <= behind)
            ):
                return False
            seen.add(packet.pts)
            latest = packet.pts if latest is None else max(latest, packet.pts)
    return True


def _decoder(stream: VideoStream, facts: VideoFacts) -> VideoCodecContext:
    special = ALPHA_DECODERS.get(facts.codec)
    if facts.has_alpha and special:
        decoder = av.CodecContext.create(special, "r")
        decoder.extradata = stream.codec_context.extradata
        assert isinstance(decoder, VideoCodecContext)
    else:
        decoder = stream.codec_context
    if decoder.name != "libdav1d":
        decoder.thread_count = 1
        decoder.thread_type = "NONE"
    return decoder


def read_packets(container: InputContainer, *streams: Stream) -> Iterator[Any]:
    """Yield the streams' packets, and None for a place that cannot be read."""
    num_errors = 0
    while num_errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(*streams):
                if packet.size or packet.pts is not None:
                    num_errors = 0
                    yield packet
            return
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, OSError):
            num_errors += 1
            yield None


class _Losses:
    """Notices which packets gave no picture although they should have.

    Some codecs hide packets by design, so there a packet without a picture counts as lost only
    between a damage (an error or a packet flagged corrupt) and the next keyframe.
    """

    def __init__(self, *, sought: int | None, strict: bool) -> None:
        self.sought, self.strict = sought, strict
        self.waiting: list[int] = []
        self.stood_in: set[int] = set()
        self.last: int | None = None
        self.damaged = False
        self.started = False

    def follow(self, packets: Iterator[Any], decoder: VideoCodecContext) -> Iterator[Picture]:
        """Yield decoded pictures and, between them, those that were lost."""
        for packet in packets:
            if packet is None or packet.is_corrupt:
                self.damaged = True
            if packet is None:
                continue
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and not packet.is_discard:
                heapq.heappush(self.waiting, time)
            yield from self._decode(decoder, packet)
        yield from self._decode(decoder, None)
        if self.waiting:
            yield from self._lost_up_to(max(self.waiting), including=True)

    def _decode(self, decoder: VideoCodecContext, packet: Any) -> Iterator[Picture]:  # noqa: ANN401
        try:
            frames = decoder.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            self.damaged = True
            return
        for frame in frames:
            pts = frame.pts
            if pts is None and self.waiting:  # AVI: packets come at even times, in coded order
                pts = self.waiting[0]
            if self.sought is not None and not self.started:
                self._check_arrival(frame, pts)
            if pts is not None:
                yield from self._lost_up_to(pts, including=False)
                if pts in self.stood_in:
                    continue  # it comes too late, after its place was taken
                self.last = pts if self.last is None else max(pts, self.last)
            self.started = True
            yield Picture(frame, pts)
            if frame.key_frame and not frame.is_corrupt:
                self.damaged = False

    def _lost_up_to(self, pts: int, *, including: bool) -> Iterator[Picture]:
        """Forget the packets up to a time, and yield those that should have given a picture."""
        while self.waiting and self.waiting[0] <= pts:
            lost = heapq.heappop(self.waiting)
            counts = self.damaged or (self.strict and self.started)
            is_new = self.last is None or lost > self.last
            if counts and is_new and (including or lost < pts):
                self.stood_in.add(lost)
                self.last = lost
                yield Picture(None, lost)

    def _check_arrival(self, frame: VideoFrame, pts: int | None) -> None:
        """Refuse a start that would not give the same pictures as decoding from the beginning."""
        assert self.sought is not None
        if self.damaged or not frame.key_frame or pts is None or pts > self.sought:
            raise SeekError
