"""The codecs and containers that can be written: which fits which, with what settings."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from legato.errors import InputError
from legato.options import require_types
from legato.video.hdr import encoder_parameters
from legato.video.icc import can_hold
from legato.video.images import DEEP_STILLS, OPAQUE_STILLS
from legato.video.probe import FrameSource, VideoFacts

CodecName = Literal["auto", "x264", "x265", "av1", "vp9", "prores", "ffv1", "png", "gif"]
STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
LARGEST_STILL_PX = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}
LARGEST_IN_CONTAINER_PX = 65_535
"""Of MP4 and MOV, which tell sides in 16 bits; segments of every codec lie in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecOptions:
    """How the output is coded."""

    codec: CodecName = "auto"
    """Video codec of the output; `auto` takes the container's usual one."""

    crf: int | None = None
    """Constant rate factor: lower is better and larger. Unset: near-transparent for the codec."""

    def __post_init__(self) -> None:
        require_types(self)
        if self.codec not in CODECS and self.codec != "auto":
            names = ", ".join(CODECS)
            raise InputError(f"codec={self.codec!r}", why="unknown", fix=f"use auto, {names}")
        if self.crf is None:
            return
        if self.codec != "auto" and CODECS[self.codec].crf is None:
            why = f"{self.codec} has no rate factor"
            raise InputError(f"crf={self.crf}", why=why, fix="leave crf out")
        largest = 63 if self.codec == "auto" else CODECS[self.codec].largest_crf
        if not 0 <= self.crf <= largest:
            raise InputError(
                f"crf={self.crf}", why="out of range", fix=f"use a number from 0 to {largest}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """What an encoder is called, can hold and needs."""

    encoder: str
    formats: tuple[str, str]
    """Pixel formats for 8 and for 10 bits; the deeper one may hold more."""
    alpha_formats: tuple[str, str] | None = None
    """The same with opacity; None: it cannot be kept."""
    odd_formats: tuple[str, str] | None = None
    """For odd widths or heights, where the usual ones need even ones; None: no such need."""
    crf: int | None = None
    """Default rate factor; None where there is none."""
    largest_crf: int = 51
    smallest_side: int = 1
    smallest_odd_side: int = 1
    """The same where `odd_formats` are used."""
    largest: tuple[int, int] = (LARGEST_IN_CONTAINER_PX, LARGEST_IN_CONTAINER_PX)
    """Columns and rows."""
    options: tuple[tuple[str, str], ...] = ()
    segment_suffix: str = ".mp4"
    full_range: bool = True
    """Whether full-range YUV is understood."""


YUV, YUV444 = ("yuv420p", "yuv420p10le"), ("yuv444p", "yuv444p10le")
CODECS: dict[CodecName, Codec] = {
    # No B-frames: packets are in presentation order, so that segments join without any shift.
    "x264": Codec(
        encoder="libx264",
        formats=YUV,
        odd_formats=YUV444,
        crf=16,
        largest=(16_384, 16_384),
        options=(("preset", "faster"), ("bf", "0")),  # as small as medium, in half the time
    ),
    "x265": Codec(
        encoder="libx265",
        formats=YUV,
        odd_formats=YUV444,
        crf=18,
        smallest_side=16,
        smallest_odd_side=64,  # below one coding tree block its 4:4:4 writes past its buffers
        options=(
            ("preset", "medium"),
            ("x265-params", "bframes=0:open-gop=0:log-level=none"),
            ("tag", "hvc1"),
        ),
    ),
    "av1": Codec(
        encoder="libsvtav1",
        formats=YUV,
        crf=20,
        largest_crf=63,
        smallest_side=4,
        largest=(16_384, 8_704),
        options=(("preset", "7"),),
    ),
    "vp9": Codec(
        encoder="libvpx-vp9",
        formats=("yuv420p", "yuv420p"),
        alpha_formats=("yuva420p", "yuva420p"),
        crf=20,
        largest_crf=63,
        options=(("b", "0"), ("deadline", "good"), ("cpu-used", "3"), ("auto-alt-ref", "0")),
    ),
    "prores": Codec(
        encoder="prores_ks",
        formats=("yuv422p10le", "yuv422p10le"),
        alpha_formats=("yuva444p10le", "yuva444p10le"),
        options=(("vendor", "apl0"),),
        segment_suffix=".mov",
        full_range=False,
    ),
    "ffv1": Codec(
        encoder="ffv1",
        formats=("bgr0", "gbrp10le"),
        alpha_formats=("bgra", "gbrap10le"),
        smallest_side=2,
        options=(("level", "3"), ("g", "1"), ("slicecrc", "1")),
    ),
    "png": Codec(
        encoder="png",
        formats=("rgb24", "rgb48le"),
        alpha_formats=("rgba", "rgba64le"),
        largest=(1_000_000, 1_000_000),  # libpng's own
        segment_suffix="",
    ),
    "gif": Codec(
        encoder="ffv1", formats=("bgr0", "bgr0"), alpha_formats=("bgra", "bgra"), smallest_side=2
    ),
}
LOOKAHEAD: dict[CodecName, int] = {"x264": 20, "x265": 20}
"""Frames that encoders look ahead at the preset in use, where that can be set."""
OTHER_LOOKAHEAD = 40
"""What is taken for the other encoders."""
LOOKAHEAD_PIXELS = 1 << 29
"""Of the frames held at most, 0.8 GB: 64 frames of 3840 x 2160, 8 of 12104 x 5544."""
FORMATS = {  # suffix: muxer and the codecs it holds, the usual one first
    ".mp4": ("mp4", ("x264", "x265", "av1", "vp9", "ffv1")),
    ".m4v": ("mp4", ("x264", "x265")),
    ".mov": ("mov", ("x264", "x265", "prores")),
    ".mkv": ("matroska", ("x264", "x265", "av1", "vp9", "prores", "ffv1")),
    ".webm": ("webm", ("vp9", "av1")),
    ".avi": ("avi", ("x264", "ffv1")),
    ".ts": ("mpegts", ("x264", "x265")),
    ".gif": ("gif", ("gif",)),
}


def choose_codec(target: Path, options: CodecOptions, kind: FrameSource) -> CodecOptions:
    """Return the options with `auto` replaced by the usual codec for the target's name.

    A name without suffix is a folder of PNG; so is `.png`, unless the source is a single image.

    Raises:
        InputError: the container cannot hold the codec, or the name tells no container.
    """
    suffix = target.suffix.lower()
    if target.name == "-":
        raise InputError("output '-'", why="nothing is written to a pipe", fix="name a file")
    if suffix in STILL_SUFFIXES and re.search(r"%\d*d", target.name):
        why, folder = "pictures are numbered by themselves", target.parent / "pictures"
        raise InputError(f"{target}", why=why, fix=f"name a folder, such as {folder}")
    is_still = suffix in STILL_SUFFIXES and kind == "image"
    if is_still or suffix in ("", ".png") or target.is_dir():
        usual: tuple[str, ...] = ("png",)
    elif suffix in FORMATS:
        usual = FORMATS[suffix][1]
    elif suffix in STILL_SUFFIXES:
        why = f"{suffix} holds one picture, no video"
        raise InputError(f"{target}", why=why, fix="name a video, or a folder (no suffix) for PNG")
    else:
        known = ", ".join([*FORMATS, *STILL_SUFFIXES])
        raise InputError(
            f"{target}", why=f"{suffix} is no container that can be written", fix=f"use {known}"
        )
    if options.codec == "auto":
        return replace(options, codec=usual[0])  # type: ignore[arg-type]  # names of CODECS
    if options.codec not in usual:
        raise InputError(
            f"codec={options.codec!r} in {target.name}",
            why=f"this kind of file holds only {', '.join(usual)}",
            fix="use .mkv, which holds every video codec"
            if options.codec != "png"
            else "name a folder (no suffix)",
        )
    return options


def segment_suffix(options: CodecOptions, facts: VideoFacts) -> str:
    """Return the suffix for a segment's file, whose container keeps exact times; "": a folder."""
    if options.codec == "vp9" and facts.has_alpha:
        return ".mkv"  # the only container that holds VP9's opacity
    return CODECS[options.codec].segment_suffix


def pixel_format(options: CodecOptions, facts: VideoFacts, *, size: tuple[int, int]) -> str:
    """Return the pixel format to encode in; `losses` says what it cannot keep."""
    codec = CODECS[options.codec]
    formats = codec.formats
    if facts.has_alpha and codec.alpha_formats:
        formats = codec.alpha_formats
    elif codec.odd_formats and (size[0] % 2 or size[1] % 2):
        formats = codec.odd_formats
    chosen = formats[facts.bit_depth > 8]
    if options.codec == "ffv1" and facts.bit_depth > 10:
        chosen = chosen.replace("10", str(facts.bit_depth))
    return chosen


def require_size(options: CodecOptions, target: Path, *, size: tuple[int, int]) -> None:
    """Refuse frames that the codec, or the kind of image, cannot hold at their exact size.

    Raises:
        InputError: they are too small or too large.
    """
    codec, suffix = CODECS[options.codec], _still(options, target)
    odd = codec.odd_formats and (size[0] % 2 or size[1] % 2)
    smallest = codec.smallest_odd_side if odd else codec.smallest_side
    if min(size) < smallest:
        raise InputError(
            f"{size[0]}x{size[1]} frames",
            why=f"{options.codec} needs at least {smallest} rows and columns here",
            fix="use the codec x264, or a folder of PNG",
        )
    if max(size) > LARGEST_STILL_PX.get(suffix, max(size)):
        raise InputError(
            f"{target}",
            why=f"{size[0]}x{size[1]} pixels, and {suffix} holds {LARGEST_STILL_PX[suffix]} at the "
            "most",
            fix="use .png, or a smaller --scale",
        )
    if not _holds(codec, size):
        others = [name for name in CODECS if name != "gif" and _holds(CODECS[name], size)]
        raise InputError(
            f"{size[0]}x{size[1]} frames",
            why=f"{options.codec} holds {codec.largest[0]}x{codec.largest[1]} at the most",
            fix=f"make them smaller{', or use ' if others else ''}{', '.join(others)}",
        )


def _holds(codec: Codec, size: tuple[int, int]) -> bool:
    return size[0] <= codec.largest[0] and size[1] <= codec.largest[1]


def holds_opacity(options: CodecOptions, target: Path) -> bool:
    """Return whether the codec keeps opacity in a file of that name."""
    formats = CODECS[options.codec].alpha_formats
    return bool(formats) and _still(options, target) not in OPAQUE_STILLS


def _still(options: CodecOptions, target: Path) -> str:
    """Return the suffix of a single image; "": it is none."""
    suffix = target.suffix.lower()
    return suffix if options.codec == "png" and suffix in STILL_SUFFIXES else ""


def losses(
    options: CodecOptions, facts: VideoFacts, target: Path, *, size: tuple[int, int]
) -> list[str]:
    """Return one sentence for each thing that the codec or the name cannot keep of such frames."""
    codec, still = CODECS[options.codec], _still(options, target)
    name = still or options.codec
    found = []
    if facts.has_alpha and not holds_opacity(options, target):
        others = "png, webp or tif" if still else "ffv1, prores, vp9 or a folder of PNG"
        found.append(f"{name} cannot hold opacity: use {others}")
    shallow = codec.formats[1] in ("yuv420p", "bgr0") or (still and still not in DEEP_STILLS)
    if facts.bit_depth > 8 and shallow:
        found.append(f"{name} holds 8 of the {facts.bit_depth} bits here")
    if facts.hdr is not None and not encoder_parameters(facts.hdr, options.codec):
        found.append(f"{name} cannot hold HDR10's static metadata: use x264, x265 or av1")
    kind = still or (".png" if options.codec == "png" else "")
    if facts.icc_profile is not None and not can_hold(facts.icc_profile, kind):
        found.append(f"{name} cannot hold this colour profile: png and jpg hold those for RGB")
    if codec.odd_formats and (size[0] % 2 or size[1] % 2):
        found.append(f"odd size {size[0]}x{size[1]}: {name} written as 4:4:4, which keeps it exact")
    if target.suffix.lower() == ".png" and facts.kind != "image" and not target.exists():
        found.append(f"{target.name} is a folder of pictures: PNG holds one, no video")
    return found


def frames_ahead(codec: CodecName, size: tuple[int, int]) -> int:
    """Return how many frames of this size an encoder looks ahead: fewer where they are large.

    Those whose number cannot be set are taken to look `OTHER_LOOKAHEAD` frames ahead.
    """
    if codec not in LOOKAHEAD:
        return OTHER_LOOKAHEAD
    return max(min(LOOKAHEAD[codec], LOOKAHEAD_PIXELS // (size[0] * size[1])), 4)


def lookahead_parameters(codec: CodecName, size: tuple[int, int]) -> dict[str, str]:
    """Return the encoder's own parameters that keep it to `frames_ahead`; none where it does."""
    frames = frames_ahead(codec, size)
    return {"rc-lookahead": str(frames)} if frames < LOOKAHEAD.get(codec, 0) else {}


def muxer_options(time_base: Fraction) -> dict[str, str]:
    """Return options for exact times: an MP4's start time is else rounded to a millisecond."""
    ticks = time_base.denominator
    while ticks < 10_000:  # as FFmpeg's muxer raises a track's own
        ticks *= 2
    return {"movie_timescale": str(ticks)}


def encoder_rate(rate: Fraction) -> Fraction:
    """Return a frame rate that every encoder takes; times are exact whatever it is."""
    return min(max(rate, Fraction(1)), Fraction(240)).limit_denominator(10_000)
