"""Joining finished segments and carrying sound, subtitles, chapters and tags across."""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from legato.errors import InputError
from legato.video.atomic import put_in_place, remove, temporary_beside, writing
from legato.video.clock import round_times
from legato.video.codecs import FORMATS, encoder_rate, muxer_options
from legato.video.container import holds_alpha, open_container
from legato.video.decode import nominal_ticks
from legato.video.probe import VideoFacts
from legato.video.segments import first_pts, segment_packets
from legato.video.stills import join_gif, join_stills
from legato.video.tracks import Track, plan_tracks
from legato.video.transcode import AudioTranscoder, SubtitleTranscoder

TECHNICAL_TAGS = {"encoder", "duration", "major_brand", "minor_version", "compatible_brands"} | {
    "vendor_id",
    "creation_time",
}
MP4_TAGS = {"title", "artist", "album", "comment", "genre", "date", "copyright", "description"} | {
    "composer",
    "album_artist",
    "track",
    "lyrics",
    "synopsis",
    "show",
    "episode_id",
    "network",
    "grouping",
    "keywords",
    "location",
}
MP4_FAMILY = (".mp4", ".m4v", ".mov")


@dataclass(slots=True, kw_only=True)
class JoinReport:
    """What became of the source's streams."""

    num_frames: int = 0
    kept: list[str] = field(default_factory=list)
    """Streams copied as they are."""
    transcoded: list[str] = field(default_factory=list)
    """Streams that the container holds only in another codec."""
    dropped: list[str] = field(default_factory=list)
    """Streams that the container cannot hold at all."""
    notices: list[str] = field(default_factory=list)
    """The same as sentences for the user, and other losses."""

    def add(self, track: Track) -> None:
        """Note what becomes of one stream."""
        if track.action == "copy":
            self.kept.append(track.label)
        elif track.action == "transcode":
            self.transcoded.append(track.label)
            self.notices.append(f"{track.label}: coded anew as {track.codec}")
        else:
            self.dropped.append(track.label)
            self.notices.append(f"{track.label}: left out, {track.reason}")


def join(
    segments: Sequence[Path],
    target: Path,
    *,
    source: Path,
    facts: VideoFacts,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> JoinReport:
    """Put finished segments and the source's other streams into one file at `target`.

    Video packets are copied in order with the times they were written with (absolute ticks of the
    source). Nothing is at `target` until it is complete and flushed to disk.

    Args:
        segments: files (or folders of PNG) from `VideoWriter`, in order.
        target: the file or folder to make.
        source: the input whose other streams, chapters, attachments and tags are carried over.
        facts: the source's.
        start: only frames with `start <= time < end` (source seconds) were processed: other
            streams are cut to that range, and all is shifted so that the first frame is at 0.
        end: see `start`.

    Raises:
        InputError: the container cannot hold the video codec.
        ResourceError: the disk is full.
    """
    if not segments:
        raise InputError(f"{target}", why="there is no segment to join", fix="upscale first")
    target, report = Path(target), JoinReport()
    temporary = temporary_beside(target)
    cut = _Cut.of(segments, facts, start, end)
    for track in plan_tracks(facts, target):
        report.add(track)
    try:
        with writing(target):
            if segments[0].is_dir():
                report.num_frames = join_stills(segments, temporary, target=target, facts=facts)
            elif target.suffix.lower() == ".gif":
                report.num_frames = join_gif(segments, temporary, facts=facts, origin=cut.origin)
            else:
                _Joiner(segments, temporary, facts, cut, report).run(source)
        put_in_place(temporary, target)
    except BaseException:
        remove(temporary)
        raise
    return report


@dataclass(frozen=True, slots=True)
class _Cut:
    """The part of the source that is kept, and the source time that becomes 0."""

    origin: Fraction
    end: Fraction | None
    is_range: bool

    @classmethod
    def of(
        cls,
        segments: Sequence[Path],
        facts: VideoFacts,
        start: Fraction | None,
        end: Fraction | None,
    ) -> "_Cut":
        is_range = (start is not None or end is not None) and facts.kind == "video"
        first = first_pts(segments[0], facts) * facts.time_base
        return cls(first if is_range else min(first, Fraction(0)), end, is_range)


@dataclass(slots=True)
class _Route:
    """Where a source stream's packets go: to an output stream, perhaps through a transcoder."""

    stream: Stream
    packets: Callable[[Any], Iterator[Any]]
    clips_start: bool


class _Joiner:
    """One output container being filled."""

    def __init__(
        self,
        segments: Sequence[Path],
        temporary: Path,
        facts: VideoFacts,
        cut: _Cut,
        report: JoinReport,
    ) -> None:
        self.segments, self.temporary, self.facts = segments, temporary, facts
        self.cut, self.report = cut, report
        self.suffix = temporary.suffix.lower()

    def run(self, source: Path) -> None:
        with ExitStack() as stack:
            first = stack.enter_context(open_container(self.segments[0]))
            is_video = self.facts.kind == "video"
            original = stack.enter_context(open_container(source)) if is_video else None
            output = stack.enter_context(self._open(original))
            video = self._add_video(output, first.streams.video[0])
            others: Iterator[tuple[Fraction, int, Any]] = iter(())
            if original is not None:
                routes = self._add_others(output, original)
                self._copy_tags(output, original)
                others = self._other_packets(original, routes)
            output.start_encoding()
            for _, _, packet in heapq.merge(self._video_packets(video), others):
                output.mux_one(packet)

    def _open(self, original: InputContainer | None) -> OutputContainer:
        options = muxer_options(self.facts.time_base)
        if self.suffix in MP4_FAMILY:
            flags = "+faststart"
            keys = {k.lower() for k in (original.metadata if original else {})} - TECHNICAL_TAGS
            if keys - MP4_TAGS:
                flags += "+use_metadata_tags"
            options["movflags"] = flags
        elif self.suffix in (".mkv", ".webm"):
            options["avoid_negative_ts"] = "disabled"  # else a sound's lead-in moves the video
        elif self.suffix == ".ts":
            options["mpegts_copyts"] = "1"
        muxer = FORMATS[self.suffix][0]
        return av.open(f"file:{self.temporary}", "w", format=muxer, container_options=options)

    def _add_video(self, output: OutputContainer, template: VideoStream) -> VideoStream:
        try:
            stream = output.add_stream_from_template(template, opaque=True)
        except ValueError as error:
            name = template.codec_context.codec.canonical_name
            raise InputError(
                f"{name} in {self.suffix}", why="the container cannot hold it", fix="use .mkv"
            ) from error
        context, facts = stream.codec_context, self.facts
        context.sample_aspect_ratio = facts.sample_aspect
        context.framerate = encoder_rate(facts.frame_rate)
        stream.time_base = 1 / context.framerate if self.suffix == ".avi" else facts.time_base
        if facts.display_matrix:
            stream.set_display_matrix(facts.display_matrix)
            if self.suffix in (".avi", ".ts"):
                self.report.notices.append(f"{self.suffix} cannot hold the rotation")
        if facts.has_alpha and holds_alpha(template):
            stream.metadata["alpha_mode"] = "1"
        return stream

    def _add_others(self, output: OutputContainer, original: InputContainer) -> dict[int, _Route]:
        routes: dict[int, _Route] = {}
        for track in plan_tracks(self.facts, self.temporary):
            if track.action == "drop":
                continue
            stream = original.streams[track.stream.index]
            if track.stream.type == "attachment":
                attached: Any = stream
                output.add_attachment(attached.name, attached.mimetype, attached.data)
                continue
            route = self._route(output, stream, track)
            route.stream.metadata.update(_kept_tags(stream.metadata))
            route.stream.disposition = stream.disposition
            routes[stream.index] = route
        return routes

    def _route(self, output: OutputContainer, stream: Stream, track: Track) -> _Route:
        is_text = track.stream.type == "subtitle"
        if track.action == "copy":
            copy = output.add_stream_from_template(stream, opaque=True)
            return _Route(copy, lambda p: iter(() if p is None else (p,)), is_text)
        coder: Any = SubtitleTranscoder if is_text else AudioTranscoder
        transcoder = coder(stream, output, track.codec)
        return _Route(transcoder.stream, transcoder.packets, is_text)

    def _copy_tags(self, output: OutputContainer, original: InputContainer) -> None:
        output.metadata.update(_kept_tags(original.metadata))
        chapters: list[Any] = []
        for chapter in original.chapters():
            base = chapter["time_base"] or Fraction(1, 1000)
            begin = chapter["start"] * base - self.cut.origin
            end = chapter["end"] * base - self.cut.origin
            if self.cut.is_range:
                if end <= 0 or self._is_past(begin):
                    continue
                begin = max(begin, Fraction(0))
                end = min(end, (self.cut.end or end + self.cut.origin) - self.cut.origin)
            chapter["start"], chapter["end"] = round(begin / base), round(end / base)
            chapters.append(chapter)
        if chapters:
            output.set_chapters(chapters)

    def _is_past(self, time: Fraction) -> bool:
        """Tell whether an output time lies behind the kept range."""
        return self.cut.end is not None and time + self.cut.origin >= self.cut.end

    def _video_packets(self, stream: VideoStream) -> Iterator[tuple[Fraction, int, Any]]:
        """Yield the segments' packets with times in the output's ticks, strictly increasing."""
        facts, base = self.facts, stream.time_base or self.facts.time_base
        packets = segment_packets(self.segments, facts)
        if self.suffix == ".avi":  # holds a constant rate only: every frame, one tick each
            timed: Iterator[tuple[int, Any]] = enumerate(_annex_b(packets, stream))
        else:
            shifted = ((pts * facts.time_base - self.cut.origin, p) for pts, p in packets)
            timed = round_times(shifted, base)
        nominal = max(1, round(nominal_ticks(facts) * facts.time_base / base))
        held: tuple[int, Any] | None = None
        for ticks, packet in timed:
            if held is not None:
                yield _stamped(*held, ticks - held[0], stream)
            held = ticks, packet
            self.report.num_frames += 1
        if held is not None:
            yield _stamped(*held, nominal, stream)

    def _other_packets(
        self, original: InputContainer, routes: dict[int, _Route]
    ) -> Iterator[tuple[Fraction, int, Any]]:
        """Yield the source's other packets that lie in the kept range, moved to the output's 0."""
        if not routes:
            return
        streams = [original.streams[i] for i in routes]
        for packet in original.demux(*streams):
            if packet.pts is None and packet.size == 0:
                continue  # the demuxer's own end mark
            route = routes[packet.stream.index]
            if self._keep(packet, route):
                for coded in route.packets(packet):
                    yield self._placed(coded, route.stream)
        for route in routes.values():
            for coded in route.packets(None):
                yield self._placed(coded, route.stream)

    def _keep(self, packet: Any, route: _Route) -> bool:  # noqa: ANN401
        """Decide on a packet, and clip one that began before the range where that is possible."""
        if packet.stream.disposition & av.stream.Disposition.attached_pic:
            return True
        if packet.pts is None:
            return not self.cut.is_range
        time = packet.pts * packet.time_base - self.cut.origin
        if self._is_past(time):
            return False
        needs_clip = self.cut.is_range or self.suffix not in MP4_FAMILY
        if time >= 0 or not needs_clip:
            return True
        late = math.ceil(-time / packet.time_base)
        if route.clips_start and packet.duration and packet.duration > late:
            packet.pts = packet.dts = packet.pts + late
            packet.duration -= late
            return True
        return False

    def _placed(self, packet: Any, stream: Stream) -> tuple[Fraction, int, Any]:  # noqa: ANN401
        offset = round(self.cut.origin / packet.time_base)
        if packet.pts is not None:
            packet.pts -= offset
        if packet.dts is not None:
            packet.dts -= offset
        packet.stream = stream
        time = packet.dts if packet.dts is not None else packet.pts or 0
        return time * packet.time_base, stream.index, packet


def _annex_b(packets: Iterator[tuple[int, Any]], stream: VideoStream) -> Iterator[Any]:
    """Yield packets with H.264's start codes, which AVI needs."""
    if stream.codec_context.name != "h264":
        yield from (packet for _, packet in packets)
        return
    codes: BitStreamFilterContext | None = None
    for _, packet in packets:
        if codes is None:
            codes = BitStreamFilterContext("h264_mp4toannexb", packet.stream)
        yield from codes.filter(packet)


def _stamped(
    ticks: int,
    packet: Any,  # noqa: ANN401
    duration: int,
    stream: VideoStream,
) -> tuple[Fraction, int, Any]:
    base = stream.time_base or Fraction(1)
    packet.stream, packet.time_base = stream, base
    packet.pts = packet.dts = ticks
    packet.duration = duration
    return ticks * base, stream.index, packet


def _kept_tags(metadata: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in metadata.items() if k.lower() not in TECHNICAL_TAGS}
