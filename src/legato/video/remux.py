"""Packets of finished segments and of the source's other streams put into one container."""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from legato.errors import InputError
from legato.video.clock import round_times
from legato.video.codecs import FORMATS, encoder_rate, muxer_options
from legato.video.container import holds_alpha, open_container
from legato.video.decode import nominal_ticks
from legato.video.matroska_aspect import set_sample_aspect
from legato.video.probe import VideoFacts
from legato.video.read import read_times
from legato.video.segments import first_pts, segment_packets
from legato.video.stretches import move, packets_in_step
from legato.video.tags import MP4_TAGS, TECHNICAL_TAGS, kept_tags, track_tags
from legato.video.tracks import NO_ROTATION, Track, counts_samples, plan_tracks, timecode_loss
from legato.video.transcode import MILLISECOND, AudioTranscoder, SubtitleTranscoder
from legato.video.untimed_sound import UntimedCopy

MP4_FAMILY = (".mp4", ".m4v", ".mov")
MATROSKA = (".mkv", ".webm")
STARTS_AT_0 = (".gif", ".avi")  # they hold no start time
OPUS_LEAD = Fraction(312, 48_000) + MILLISECOND / 2  # what its encoder puts before the sound


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of the source that is kept, and the source time that becomes 0."""

    origin: Fraction
    end: Fraction | None
    is_range: bool

    @classmethod
    def of(
        cls,
        segments: Sequence[Path],
        target: Path,
        facts: VideoFacts,
        start: Fraction | None,
        end: Fraction | None,
    ) -> "Cut":
        """Return the cut for a range of the source; without one, times stay as they are."""
        is_range = start is not None or end is not None
        first = first_pts(segments[0], facts) * facts.time_base
        moves = is_range or target.suffix.lower() in STARTS_AT_0
        return cls(first if moves else min(first, Fraction(0)), end, is_range)


@dataclass(slots=True)
class _Route:
    """Where a source stream's packets go: to an output stream, perhaps through a transcoder."""

    stream: Stream
    packets: Callable[[Any], Iterator[Any]]
    clips_start: bool
    lead: Fraction = Fraction(0)
    """Seconds of sound before the first one that is heard, which Matroska holds before its 0."""


class Joiner:
    """One output container being filled."""

    def __init__(
        self,
        segments: Sequence[Path],
        temporary: Path,
        facts: VideoFacts,
        cut: Cut,
    ) -> None:
        self.segments, self.temporary, self.facts = segments, temporary, facts
        self.cut = cut
        self.num_frames = 0
        self.last_ticks: dict[int, int] = {}
        self.untimed: list[UntimedCopy] = []
        self.texts: list[tuple[str, SubtitleTranscoder]] = []
        self.notices: list[str] = []
        self.suffix = temporary.suffix.lower()

    def run(self, source: Path) -> None:
        """Write everything; the container is complete afterwards."""
        with ExitStack() as stack:
            first = stack.enter_context(open_container(self.segments[0]))
            is_video = self.facts.kind == "video"
            original = stack.enter_context(open_container(source)) if is_video else None
            output = stack.enter_context(self._open(original))
            shown = original.streams[self.facts.stream_index] if original is not None else None
            video = self._add_video(output, first.streams.video[0], shown)
            others: Iterator[tuple[Fraction, int, Any]] = iter(())
            if original is not None:
                routes = self._add_others(output, original)
                self._copy_tags(output, original)
                others = self._other_packets(original, routes)
            output.start_encoding()
            for _, _, packet in heapq.merge(self._video_packets(video), others):
                output.mux_one(packet)
            size = (video.width, video.height)
        self._set_aspect(size)
        self.notices += [notice for sound in self.untimed for notice in sound.notices(self.suffix)]
        self.notices += [notice for label, text in self.texts for notice in text.notices(label)]

    def _set_aspect(self, size: tuple[int, int]) -> None:
        """Add the sample aspect where the muxer cannot be told."""
        aspect = self.facts.sample_aspect
        if self.suffix not in MATROSKA or aspect == 1:
            return
        if not set_sample_aspect(self.temporary, aspect, size=size):
            self.notices.append(f"{self.suffix}: the sample aspect {aspect} could not be kept")

    def _open(self, original: InputContainer | None) -> OutputContainer:
        options = muxer_options(self.facts.time_base)
        if self.suffix in MP4_FAMILY:
            flags = "+faststart"
            keys = {k.lower() for k in (original.metadata if original else {})} - TECHNICAL_TAGS
            if keys - MP4_TAGS:
                flags += "+use_metadata_tags"
            options["movflags"] = flags
        elif self.suffix in MATROSKA:
            options["avoid_negative_ts"] = "disabled"  # else a sound's lead-in moves the video
            options["write_crc32"] = "0"  # the header is amended below
        elif self.suffix == ".ts":
            options["mpegts_copyts"] = "1"
        muxer = FORMATS[self.suffix][0]
        return av.open(f"file:{self.temporary}", "w", format=muxer, container_options=options)

    def _add_video(
        self, output: OutputContainer, template: VideoStream, shown: Stream | None
    ) -> VideoStream:
        """Add the picture's track, with the tags of the source's."""
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
            if self.suffix in NO_ROTATION:
                self.notices.append(
                    f"{self.suffix} cannot hold the turn by {facts.rotation_deg} degrees"
                )
        if shown is not None:
            tags = track_tags(shown.metadata, self.suffix)
            stream.metadata.update({k: v for k, v in tags.items() if k.lower() != "alpha_mode"})
        if facts.timecode is not None and not timecode_loss(facts, self.temporary):
            stream.metadata["timecode"] = str(facts.timecode.later(self._frames_before()))
        if facts.has_alpha and holds_alpha(template):
            stream.metadata["alpha_mode"] = "1"
        stream.disposition = Disposition.default
        return stream

    def _frames_before(self) -> int:
        """Return about how many frames of the source lie before the kept range."""
        if not self.cut.is_range:
            return 0
        first = next(read_times(self.facts.path, facts=self.facts))
        return round((self.cut.origin - first) * self.facts.frame_rate)

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
            if track.stream.is_cover_art and self.suffix == ".mkv":
                self._attach_cover(output, track)
                continue
            route = self._route(output, stream, track)
            route.stream.metadata.update(track_tags(stream.metadata, self.suffix))
            route.stream.disposition = stream.disposition
            if track.stream.type == "video":  # players show the upscaled one
                route.stream.disposition &= ~Disposition.default
            routes[stream.index] = route
        return routes

    def _attach_cover(self, output: OutputContainer, track: Track) -> None:
        """Add cover art as Matroska has it: an attached image."""
        suffix = {"mjpeg": "jpg"}.get(track.codec, track.codec)
        with open_container(self.facts.path) as original:
            for packet in original.demux(original.streams[track.stream.index]):
                if packet.size:
                    kind = f"image/{'jpeg' if suffix == 'jpg' else suffix}"
                    output.add_attachment(f"cover.{suffix}", kind, bytes(packet))
                    return

    def _route(self, output: OutputContainer, stream: Stream, track: Track) -> _Route:
        is_text = track.stream.type == "subtitle"
        counts = isinstance(stream, AudioStream) and counts_samples(track.codec, self.suffix)
        is_plain = counts and track.codec.startswith("pcm_")  # coded anew, it stays what it is
        lead = _lead(stream) if self.suffix in MATROSKA else Fraction(0)
        if track.action == "copy" and not is_plain:
            copy = output.add_stream_from_template(stream, opaque=True)
            if counts:
                self.untimed.append(UntimedCopy(track.label, self.cut.origin))
                return _Route(copy, self.untimed[-1].packets, is_text)
            return _Route(copy, lambda p: iter(() if p is None else (p,)), is_text, lead)
        if isinstance(stream, AudioStream):
            begin = self.cut.origin if counts else None
            sound = AudioTranscoder(stream, output, track.codec, begin=begin)
            coded = OPUS_LEAD if track.codec == "libopus" else Fraction(0)
            return _Route(sound.stream, sound.packets, is_text, max(lead, coded))
        assert isinstance(stream, SubtitleStream)
        text = SubtitleTranscoder(stream, output, track.codec)
        self.texts.append((track.label, text))
        return _Route(text.stream, text.packets, is_text)

    def _copy_tags(self, output: OutputContainer, original: InputContainer) -> None:
        output.metadata.update(kept_tags(original.metadata))
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
            timed: Iterator[tuple[int, Any]] = enumerate(_annex_b(self._even(packets), stream))
        else:
            shifted = ((pts * facts.time_base - self.cut.origin, p) for pts, p in packets)
            timed = round_times(shifted, base)
        nominal = max(1, round(nominal_ticks(facts) * facts.time_base / base))
        held: tuple[int, Any] | None = None
        for ticks, packet in timed:
            if held is not None:
                yield _stamped(*held, ticks - held[0], stream)
            held = ticks, packet
            self.num_frames += 1
        if held is not None:
            yield _stamped(*held, nominal, stream)

    def _even(self, packets: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Pass packets on, and tell of times that an even rate does not keep."""
        frame = 1 / encoder_rate(self.facts.frame_rate)
        worst = Fraction(0)
        for index, (pts, packet) in enumerate(packets):
            time = pts * self.facts.time_base - self.cut.origin
            worst = max(worst, abs(time - index * frame))
            yield pts, packet
        if worst > frame / 2:
            self.notices.append(
                f"AVI holds an even rate only: frames move by up to {float(worst):.2f} s; use .mkv"
            )

    def _other_packets(
        self, original: InputContainer, routes: dict[int, _Route]
    ) -> Iterator[tuple[Fraction, int, Any]]:
        """Yield the source's other packets that lie in the kept range, moved to the output's 0."""
        if not routes:
            return
        streams = [original.streams[i] for i in routes]
        for packet in packets_in_step(original, streams, self.facts):
            route = routes[packet.stream.index]
            if self._keep(packet, route):
                yield from self._placed(route.packets(packet), route)
        for route in routes.values():
            yield from self._placed(route.packets(None), route)

    def _keep(self, packet: Any, route: _Route) -> bool:  # noqa: ANN401
        """Decide on a packet, and clip one that began before the range where that is possible."""
        if packet.stream.disposition & Disposition.attached_pic:
            return True
        if packet.pts is None:
            return not self.cut.is_range
        time = packet.pts * packet.time_base - self.cut.origin
        if self._is_past(time):
            return False
        needs_clip = self.cut.is_range or self.suffix not in MP4_FAMILY
        if time >= -route.lead or not needs_clip:
            return True
        late = math.ceil(-time / packet.time_base)
        if route.clips_start and packet.duration and packet.duration > late:
            packet.pts = packet.dts = packet.pts + late
            packet.duration -= late
            return True
        return False

    def _placed(self, packets: Iterator[Any], route: _Route) -> Iterator[tuple[Fraction, int, Any]]:
        """Move packets to the output's 0; what lies before it only MP4 can hold, but for a lead."""
        stream = route.stream
        for packet in packets:
            move(packet, -self.cut.origin)
            ticks = packet.dts if packet.dts is not None else packet.pts or 0
            time = ticks * packet.time_base
            if time >= -route.lead or self.suffix in MP4_FAMILY:
                self._put_in_order(packet, stream)
                packet.stream = stream
                yield time, stream.index, packet

    def _put_in_order(self, packet: Any, stream: Stream) -> None:  # noqa: ANN401
        """Move a packet that would not lie behind its stream's last one, which muxers refuse."""
        base = stream.time_base
        if packet.dts is None or base is None:
            return
        ticks, shown = (
            math.floor(time * packet.time_base / base + Fraction(1, 2))
            for time in (packet.dts, packet.dts if packet.pts is None else packet.pts)
        )
        last = self.last_ticks.get(stream.index)
        if last is not None and ticks <= last:
            holds_equal = self.suffix in MATROSKA or stream.type == "subtitle"
            ticks = last if holds_equal else last + 1
            packet.duration = round((packet.duration or 0) * packet.time_base / base)
            packet.time_base, packet.dts, packet.pts = base, ticks, max(ticks, shown)
        self.last_ticks[stream.index] = ticks


def _lead(stream: Stream) -> Fraction:
    """Return what a stream says that its decoder throws away at first, up to a tick of Matroska."""
    if not isinstance(stream, AudioStream) or not stream.codec_context.delay:
        return Fraction(0)
    return Fraction(stream.codec_context.delay, stream.rate) + MILLISECOND / 2


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
