"""Which streams of a source a container can hold: copied, coded anew, or left out and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from legato.video.probe import StreamFacts, VideoFacts

NO_ROTATION = (".avi", ".ts")  # nor has a GIF or PNG, whose pixels are turned instead
MP4_AUDIO = ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac")
MKV_AUDIO = (
    *("aac", "ac3", "alac", "atrac1", "atrac3", "cook", "dts", "eac3", "flac", "mlp", "mp1"),
    *("mp2", "mp3", "opus", "qdm2", "qdmc", "ra_144", "ra_288", "sipr", "truehd", "tta"),
    *("vorbis", "wavpack", "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
    *("pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f64le"),
)  # of others, such as WMA, ADPCM and AMR, the muxer knows no name
MKV_VIDEO = (
    *("av1", "dirac", "ffv1", "h264", "hevc", "jpeg2000", "mjpeg", "mpeg1video", "mpeg2video"),
    *("mpeg4", "msmpeg4v3", "prores", "rawvideo", "rv10", "rv20", "rv30", "rv40", "snow"),
    *("theora", "vp8", "vp9", "vvc"),
)
SUFFIX_AUDIO: dict[str, tuple[str, ...]] = {  # what is copied
    ".mp4": MP4_AUDIO,
    ".m4v": MP4_AUDIO,
    ".mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s16be"),
    ".mkv": MKV_AUDIO,
    ".webm": ("opus", "vorbis"),
    ".avi": ("mp3", "mp2", "ac3", "pcm_s16le", "pcm_u8"),
    ".ts": ("aac", "mp3", "mp2", "ac3", "eac3"),
}
SOUND_WITHOUT_TIMES = (".avi",)  # its place is what was written before it
AUDIO_ENCODERS = {".webm": "libopus", ".avi": "libmp3lame", ".mkv": "flac"}  # else aac
SUFFIX_TEXT: dict[str, tuple[str, ...]] = {
    ".mp4": ("mov_text",),
    ".m4v": ("mov_text",),
    ".mov": ("mov_text",),
    ".mkv": ("subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"),
    ".webm": ("webvtt",),
}
TEXT_CODECS = {"subrip", "ass", "ssa", "webvtt", "mov_text", "text"}
TEXT_ENCODERS = {".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text"} | {
    ".mkv": "subrip",
    ".webm": "webvtt",
}
HOLD_TIMECODE = (".mp4", ".m4v", ".mov", ".mkv")
SUFFIX_VIDEO: dict[str, tuple[str, ...]] = {  # further video streams and cover art
    ".mp4": ("h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "png"),
    ".m4v": ("h264", "hevc", "mpeg4", "mjpeg", "png"),
    ".mov": ("h264", "hevc", "prores", "mpeg4", "mjpeg", "png"),
    ".mkv": MKV_VIDEO,
    ".webm": ("vp8", "vp9", "av1"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What becomes of one stream of the source."""

    stream: StreamFacts
    action: Literal["copy", "transcode", "drop"]
    codec: str
    """The codec in the output; empty where dropped."""
    reason: str = ""

    @property
    def label(self) -> str:
        """A name for people: type, codec, and language where there is one."""
        language = f", {self.stream.language}" if self.stream.language not in ("", "und") else ""
        kind = "cover art" if self.stream.is_cover_art else self.stream.type
        return f"{kind} stream {self.stream.index} ({self.stream.codec}{language})"


def counts_samples(codec: str, suffix: str) -> bool:
    """Tell whether a container plays such sound without a break, whatever its packets' times."""
    return suffix in SOUND_WITHOUT_TIMES or (suffix == ".mov" and codec.startswith("pcm_"))


def timecode_loss(facts: VideoFacts, target: Path) -> list[str]:
    """Return what a file of this name lacks of the source's timecode, as a sentence or none."""
    suffix = target.suffix.lower()
    if facts.timecode is None or suffix in HOLD_TIMECODE:
        return []
    return [f"timecode {facts.timecode}: {suffix or 'a folder of images'} cannot hold it"]


def plan_tracks(facts: VideoFacts, target: Path) -> list[Track]:
    """Return what becomes of every stream but the upscaled one in a file of this name."""
    suffix = target.suffix.lower()
    others = [s for s in facts.streams if s.index != facts.stream_index]
    return [] if facts.kind != "video" else list(_plan(others, suffix))


def _plan(streams: Iterable[StreamFacts], suffix: str) -> Iterable[Track]:
    for stream in streams:
        if stream.type == "audio":
            encoder = AUDIO_ENCODERS.get(suffix, "aac") if suffix in SUFFIX_AUDIO else ""
            yield _choose(stream, suffix, SUFFIX_AUDIO.get(suffix, ()), encoder)
        elif stream.type == "subtitle":
            is_text = stream.codec in TEXT_CODECS
            encoder = TEXT_ENCODERS.get(suffix, "") if is_text else ""
            yield _choose(stream, suffix, SUFFIX_TEXT.get(suffix, ()), encoder)
        elif suffix == ".mkv" and (stream.type == "attachment" or stream.is_cover_art):
            # cover art becomes an attachment there, of whatever kind
            yield Track(stream=stream, action="copy", codec=stream.codec)
        elif stream.type == "video":
            yield _choose(stream, suffix, SUFFIX_VIDEO.get(suffix, ()), "")
        elif stream.type == "data":
            yield Track(stream=stream, action="drop", codec="", reason="it holds data, not media")
        else:
            yield _drop(stream, suffix)


def _choose(stream: StreamFacts, suffix: str, held: tuple[str, ...], encoder: str) -> Track:
    if stream.codec in held:
        return Track(stream=stream, action="copy", codec=stream.codec)
    if encoder:
        return Track(stream=stream, action="transcode", codec=encoder)
    return _drop(stream, suffix)


def _drop(stream: StreamFacts, suffix: str) -> Track:
    reason = f"{suffix or 'a folder of images'} cannot hold it"
    return Track(stream=stream, action="drop", codec="", reason=reason)
