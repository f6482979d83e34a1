"""A file's facts, read from its content: streams, sizes, rates, colour, rotation."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from legato.errors import DecodeError
from legato.video.colour import (
    MATRIX_NAMES,
    ColourTags,
    bit_depth_of,
    declared_tags,
    has_alpha,
    tags_of,
)
from legato.video.container import (
    choose_stream,
    codec_name,
    has_still_brand,
    holds_alpha,
    is_chapter_track,
    is_cover_art,
    is_timecode_track,
    list_images,
    open_container,
    timecode_text,
)
from legato.video.hdr import StaticHdr, static_hdr
from legato.video.images import display_matrix, orient, profile_of
from legato.video.smpte import Timecode

STILLS_RATE = Fraction(25)  # stills carry no time; 25 per second as ffmpeg's image reader assumes
FrameSource = Literal["video", "images", "image"]
FieldOrder = Literal["progressive", "top", "bottom"]
FIELD_ORDERS: dict[int, FieldOrder] = {2: "top", 3: "bottom", 4: "top", 5: "bottom"}
SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "nut"}  # indexed, one clock throughout
UNSEEKABLE = {"gif", "apng"}
FILE_WIDE = ("asf",)  # formats whose streams are all said to last as long as the file
SOUND_BEYOND = Fraction(1, 2)  # seconds by which sound there often outlasts the picture
FRAMES_INSPECTED = 5  # enough to see interlaced flags behind an unflagged first frame
PACKETS_INSPECTED = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """One stream of a file."""

    index: int
    type: str
    """`video`, `audio`, `subtitle`, `attachment`, `data` or `unknown`."""
    codec: str
    language: str
    title: str
    is_cover_art: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """What is known of a file, a folder of images or an image before its frames are decoded."""

    path: Path
    kind: FrameSource
    width: int
    """Stored pixel columns, before rotation and sample aspect."""
    height: int
    frame_rate: Fraction
    """Average frames per second; only a guide where the rate varies."""
    time_base: Fraction
    """Seconds per tick of every frame's `pts`."""
    seekable: bool
    """Whether the container can be read from a keyframe on; `read_frames` does so where its times
    only go forward."""
    num_frames_estimate: int | None
    """As the container says; a damaged file may hold fewer. None: it does not say."""
    duration_seconds: Fraction | None
    promised_seconds: Fraction | None
    """How long the container says that this very stream lasts; a truncated file lasts less."""
    rotation_deg: int
    """Counter-clockwise turn that a player applies; the stored pixels are not turned."""
    display_matrix: tuple[int, ...] | None
    """The nine numbers behind `rotation_deg` (which also hold flips), or None."""
    sample_aspect: Fraction
    """Width of a pixel over its height."""
    bit_depth: int
    """Bits of a component: 8, 10, 12 or 16. More than 8 is decoded to uint16."""
    has_alpha: bool
    interlaced: FieldOrder
    """Which field comes first."""
    colour: ColourTags
    stream_index: int
    """The video stream that is read; 0 for images."""
    streams: tuple[StreamFacts, ...]
    container: str
    """The demuxer's name, such as `mov,mp4,m4a,3gp,3g2,mj2`; `images` for a folder."""
    codec: str
    pixel_format: str
    flags_fields: bool = False
    """Whether pictures say for themselves that they are interlaced, and in which order."""
    images: tuple[Path, ...] = ()
    """The files of a folder of images, in natural order."""
    hdr: StaticHdr | None = None
    """HDR10's static metadata, carried to codecs that can hold it."""
    icc_profile: bytes | None = None
    """Colour profile of an image, of a folder's first one; each is carried to its own output."""
    timecode: Timecode | None = None
    """Of the first frame; None: none is stated, or none that the frame rate can have."""
    notices: tuple[str, ...] = ()
    """What a user should know: assumptions made and streams left aside."""

    def scaled(self, factor: Fraction) -> tuple[int, int]:
        """Return width and height times a factor: the nearest numbers, halves up, at least 1."""
        half = Fraction(1, 2)
        width, height = (max(1, math.floor(n * factor + half)) for n in (self.width, self.height))
        return width, height


def probe(path: Path | str) -> VideoFacts:
    """Return the facts of a video file, a folder of images or an image, judged by content.

    Raises:
        DecodeError: there is nothing at `path` that can be decoded to frames.
    """
    path = Path(path)
    if not path.exists():
        raise DecodeError(f"{path}", why="no such file or folder", fix="check the spelling")
    if path.is_dir():
        return _probe_folder(path)
    if not path.is_file():
        raise DecodeError(
            f"{path}",
            why="it is a pipe or device, and the input is read more than once",
            fix="save it to a file first",
        )
    with open_container(path) as container:
        return _probe_container(path, container)


def stream_facts(stream: Stream) -> StreamFacts:
    """Return the facts of any stream of an open container."""
    return StreamFacts(
        index=stream.index,
        type=stream.type or "unknown",
        codec=codec_name(stream),
        language=stream.metadata.get("language", ""),
        title=stream.metadata.get("title", ""),
        is_cover_art=is_cover_art(stream),
    )


def _probe_folder(path: Path) -> VideoFacts:
    images = list_images(path)
    if not images:
        names = sorted(p.name for p in path.iterdir())
        found = f"it holds {', '.join(names[:5])}" if names else "it is empty"
        raise DecodeError(f"{path}", why=f"no images in this folder; {found}", fix="give images")
    return replace(
        _first_image(images),
        path=path,
        kind="images",
        num_frames_estimate=len(images),
        duration_seconds=len(images) / STILLS_RATE,
        container="images",
        images=images,
    )


def _first_image(images: Sequence[Path]) -> VideoFacts:
    """Return the facts of the first image that can be decoded.

    Raises:
        DecodeError: none can.
    """
    for path in images[:-1]:
        try:
            return probe(path)
        except DecodeError:
            continue
    return probe(images[-1])


def _probe_container(path: Path, container: InputContainer) -> VideoFacts:
    stream = choose_stream(path, container)
    context = stream.codec_context
    declared = declared_tags(context)
    frames = _first_frames(path, container, stream)
    first = frames[0]
    is_image = _is_still(container)
    alpha = has_alpha(first.format.name) or holds_alpha(stream)
    if codec_name(stream) == "gif":
        alpha = any(_see_through(frame) for frame in frames)
    if codec_name(stream) == "mjpeg":
        alpha = False  # a CMYK picture is decoded into four planes, the last of them opaque
    field_order: FieldOrder = FIELD_ORDERS.get(context.field_order, "progressive")
    flags_fields = any(f.interlaced_frame for f in frames)
    if field_order == "progressive" and flags_fields:
        field_order = "top"  # the frames' own flags decide when they are deinterlaced
    rate = _frame_rate(stream)
    timecode = Timecode.parse(timecode_text(container, stream), rate)
    matrix = display_matrix(first)
    shown = orient(np.empty((first.height, first.width, 0)), matrix if is_image else None)
    facts = VideoFacts(
        path=path,
        kind="image" if is_image else "video",
        width=shown.shape[1],
        height=shown.shape[0],
        frame_rate=STILLS_RATE if is_image else rate,
        time_base=1 / STILLS_RATE if is_image else _time_base(stream, frames, rate),
        seekable=container.format.name in SEEKABLE
        and context.codec.canonical_name not in UNSEEKABLE,
        num_frames_estimate=1 if is_image else stream.frames or None,
        duration_seconds=None if is_image else _duration(container, stream),
        promised_seconds=None if is_image else _promised(container, stream),
        rotation_deg=0 if is_image else first.rotation,
        display_matrix=None if is_image else matrix,
        sample_aspect=stream.sample_aspect_ratio or Fraction(1),
        bit_depth=bit_depth_of(first.format.name),
        has_alpha=alpha,
        interlaced=field_order,
        flags_fields=flags_fields,
        colour=tags_of(first, declared),
        stream_index=stream.index,
        streams=tuple(
            stream_facts(s)
            for s in container.streams
            if not is_chapter_track(s) and not (timecode and is_timecode_track(s))
        ),
        container=container.format.name,
        codec=codec_name(stream),
        pixel_format=first.format.name,
        hdr=static_hdr(first),
        icc_profile=profile_of(path, first) if is_image else None,
        timecode=None if is_image else timecode,
    )
    return replace(facts, notices=tuple(_notices(facts)))


def _is_still(container: InputContainer) -> bool:
    """Tell whether a file is of a kind that holds one image."""
    name = container.format.name
    return name.endswith("_pipe") or name == "image2" or has_still_brand(container)


def _first_frames(path: Path, container: InputContainer, stream: VideoStream) -> list[VideoFrame]:
    """Decode the first few frames, stepping over packets that cannot be decoded."""
    frames: list[VideoFrame] = []
    num_packets = 0
    try:
        for packet in container.demux(stream):
            num_packets += 1
            try:
                frames += packet.decode()
            except av.error.FFmpegError:
                continue
            if len(frames) >= FRAMES_INSPECTED or (frames and num_packets > PACKETS_INSPECTED):
                break
    except (av.error.FFmpegError, EOFError):
        pass
    if not frames:
        why = f"none of {num_packets - 1} packets of its {codec_name(stream)} stream can be decoded"
        if num_packets <= 1:
            why = f"its {codec_name(stream)} stream holds zero frames"
        raise DecodeError(f"{path}", why=why, fix="check that it plays")
    return frames


def _time_base(stream: VideoStream, frames: list[VideoFrame], rate: Fraction) -> Fraction:
    """Return the stream's time base, or one tick per frame where it carries no times."""
    timed = any(f.pts is not None or f.dts is not None for f in frames)
    return stream.time_base if timed and stream.time_base else 1 / rate


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    whole = Fraction(container.duration, av.time_base) if container.duration else None
    return _stated(stream) or whole


def _promised(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return how long the picture must last if nothing of the file is missing."""
    stated = _stated(stream)
    if stated is None or container.format.name not in FILE_WIDE:
        return stated
    return stated - SOUND_BEYOND


def _stated(stream: VideoStream) -> Fraction | None:
    """Return a stream's own duration: from its header, or from Matroska's statistics."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    tags = {key.upper(): value for key, value in stream.metadata.items()}
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", tags.get("DURATION", ""))
    if match is None:
        return None
    hours, minutes, seconds = (Fraction(part) for part in match.groups())
    begin = (stream.start_time or 0) * (stream.time_base or Fraction(1))
    return hours * 3600 + minutes * 60 + seconds - begin


def _see_through(frame: VideoFrame) -> bool:
    """Tell whether any pixel of a GIF's picture, always decoded with opacity, is transparent."""
    return bool((frame.to_ndarray(format="rgba")[..., 3] < 255).any())


def _frame_rate(stream: VideoStream) -> Fraction:
    """Return the average rate, or the coded one where the file has no times to average."""
    rates = (stream.average_rate, stream.guessed_rate)
    return next((r for r in (rates if stream.duration else rates[::-1]) if r), STILLS_RATE)


def _notices(facts: VideoFacts) -> Iterator[str]:
    if facts.colour.guessed:
        name = MATRIX_NAMES[facts.colour.matrix]
        yield f"no colour matrix in the file: {name} assumed for {facts.width}x{facts.height}"
    others = [s for s in facts.streams if s.type == "video" and s.index != facts.stream_index]
    for stream in others:
        if not stream.is_cover_art:
            yield f"second video stream {stream.index} ({stream.codec}) is not upscaled"
