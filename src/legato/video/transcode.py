"""Sound and text subtitles coded anew for a container that cannot hold them as they are."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import OutputContainer
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import SubtitleSet

from legato.video.cues import Cue, OneAtATime
from legato.video.untimed_sound import SilenceFiller

AUDIO_BIT_RATE = 96_000  # per channel: transparent for AAC, Opus and MP3
USUAL_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")
MILLISECOND = Fraction(1, 1000)
LINE_BREAK = r"\N"  # ASS's
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


class AudioTranscoder:
    """Decodes one audio stream and codes it anew, keeping its times.

    Args:
        source: the stream.
        container: where it goes.
        codec: what it becomes.
        begin: where the container holds no times for this sound: the source time, in seconds, at
            which it begins to play. Silence then goes where there is no sound.
    """

    def __init__(
        self,
        source: AudioStream,
        container: OutputContainer,
        codec: str,
        *,
        begin: Fraction | None = None,
    ) -> None:
        self.source = source
        rate, layout = supported_rate(codec, source.rate), supported_layout(codec, source)
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, AudioStream)
        self.stream: AudioStream = stream
        self.stream.codec_context.layout = layout
        if codec != "flac":
            channels = self.stream.codec_context.layout.nb_channels
            self.stream.codec_context.bit_rate = AUDIO_BIT_RATE * channels
        self.resampler = AudioResampler(
            format=self.stream.codec_context.format, layout=layout, rate=rate
        )
        self.filler = None if begin is None else SilenceFiller(begin, rate)

    def packets(self, packet: Any) -> Iterator[Any]:  # noqa: ANN401
        """Yield the coded packets that a packet gives; None at the end of the stream."""
        try:
            frames = self.source.codec_context.decode(packet)
        except av.error.FFmpegError:
            frames = []  # a damaged packet of sound: the encoder's times show the gap
        for frame in frames:
            yield from self._coded(self.resampler.resample(frame))
        if packet is None:
            yield from self._coded(self.resampler.resample(None))
            yield from self.stream.encode(None)

    def _coded(self, frames: list[AudioFrame]) -> Iterator[Any]:
        for frame in frames:
            for even in (frame,) if self.filler is None else self.filler.frames(frame):
                yield from self.stream.encode(even)


def supported_rate(codec: str, rate: int) -> int:
    """Return a sample rate that the encoder takes: the source's, or 48 kHz."""
    rates = Codec(codec, "w").audio_rates
    return rate if not rates or rate in rates else 48_000


def supported_layout(codec: str, source: AudioStream) -> str:
    """Return a channel layout that the encoder takes: the source's, or the usual one for as many.

    MP3 holds two channels at most; more are mixed down.
    """
    if codec.startswith("pcm_"):
        return source.layout.name
    channels = min(source.layout.nb_channels, 2 if codec == "libmp3lame" else 8)
    usual = USUAL_LAYOUTS[channels - 1]
    named = source.layout.name in USUAL_LAYOUTS
    return source.layout.name if named and channels == source.layout.nb_channels else usual


class SubtitleTranscoder:
    """Turns text subtitles of any kind into another kind; styling beyond plain text is lost."""

    def __init__(self, source: SubtitleStream, container: OutputContainer, codec: str) -> None:
        self.source = source
        stream = container.add_stream(codec)
        assert isinstance(stream, SubtitleStream)
        self.stream: Stream = stream
        self.context = stream.codec_context
        self.context.subtitle_header = ASS_HEADER
        self.context.time_base = MILLISECOND
        self.layout = OneAtATime() if codec == "mov_text" else None
        self._num_empty = 0

    def notices(self, label: str) -> list[str]:
        """Say how many cues of a track were shown for no time, if that could not be kept."""
        if not self.layout or not self._num_empty:
            return []
        return [f"{label}: {self._num_empty} left out that would be shown for no time; use .mkv"]

    def packets(self, packet: Any) -> Iterator[Any]:  # noqa: ANN401
        """Yield the packets that a packet completes; None at the end of the stream.

        Where cues may not overlap, one is complete when the next begins.
        """
        if packet is None:
            cues = self.layout.finish() if self.layout else iter(())
        elif (cue := self._cue(packet)) is None:
            return
        else:
            self._num_empty += cue.begin == cue.end
            cues = self.layout.add(cue) if self.layout else iter((cue,))
        yield from map(self._coded, cues)

    def _cue(self, packet: Any) -> Cue | None:  # noqa: ANN401
        """Return the text of a packet with its times; None where it has none."""
        if packet.pts is None:
            return None
        lines = [line for part in self.source.decode(packet) if (line := plain_text(part))]
        begin = round(packet.pts * packet.time_base / MILLISECOND)
        duration = round((packet.duration or 0) * packet.time_base / MILLISECOND)
        return Cue(begin=begin, end=begin + duration, lines=tuple(lines)) if lines else None

    def _coded(self, cue: Cue) -> Any:  # noqa: ANN401
        duration = cue.end - cue.begin
        dialogue = f"0,0,Default,,0,0,0,,{LINE_BREAK.join(cue.lines)}".encode()
        coded = self.context.encode_subtitle(SubtitleSet.create(dialogue, 0, duration))
        coded.stream = self.stream
        coded.time_base = MILLISECOND
        coded.pts = coded.dts = cue.begin
        coded.duration = duration
        return coded


def plain_text(subtitle: Any) -> str:  # noqa: ANN401
    """Return the words of a decoded subtitle, with its line breaks but without styling."""
    text = getattr(subtitle, "ass", b"") or getattr(subtitle, "text", b"")
    line = text.decode("utf-8", errors="replace")
    if getattr(subtitle, "ass", b""):
        line = line.split(",", 8)[-1]  # ReadOrder, Layer, Style, Name, 3 margins, Effect, Text
    return re.sub(r"{\\[^}]*}", "", line).strip()
