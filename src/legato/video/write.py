"""Frames to a codec: temporary file beside the target, then renamed into place."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from legato.errors import InputError
from legato.video.atomic import put_in_place, remove, temporary_beside, writing
from legato.video.codecs import (
    CODECS,
    FORMATS,
    CodecOptions,
    choose_codec,
    encoder_rate,
    lookahead_parameters,
    losses,
    muxer_options,
    pixel_format,
    require_size,
)
from legato.video.colour import BT709, RGB, ColourConverter, ColourTags
from legato.video.frame import Alpha, Pixels
from legato.video.hdr import encoder_parameters
from legato.video.images import encode_image
from legato.video.probe import VideoFacts
from legato.video.segments import SHIFT_KEY, SHIFT_PREFIX

ENCODER_PARAMETERS = {"x264": "x264-params", "x265": "x265-params", "av1": "svtav1-params"}
MKV_TICK = Fraction(1, 1000)


class VideoWriter:
    """Writes frames in presentation order; nothing is at `path` until `close` succeeded.

    A context manager: leaving the block normally closes, an exception discards. The file keeps
    every `pts` exactly (Matroska: stored as if a tick were 1 ms), has closed groups of pictures
    and packets in presentation order; `legato.video.streams.join` makes final files of it.

    Args:
        path: a video file, or a folder for the codec `png`.
        size: width and height of every frame, kept exactly.
        time_base: seconds per tick of the `pts` given to `write`.
        options: a concrete codec (see `choose_codec`), or `auto` to go by the name of `path`.
        facts: the source's, for bit depth, opacity, colour tags, rate and aspect.

    Raises:
        InputError: the codec cannot hold such frames, or the folder cannot be written.
        ResourceError: the disk is full.
    """

    notices: list[str]
    """What could not be kept, such as opacity, as sentences for the user."""

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        time_base: Fraction,
        options: CodecOptions,
        facts: VideoFacts,
    ) -> None:
        if options.codec == "auto":
            options = choose_codec(path, options, facts.kind)
        self.path, self.size = Path(path), size
        require_size(options, self.path, size=size)
        self.notices = losses(options, facts, self.path, size=size)
        self._temporary = temporary_beside(self.path)
        self._last_pts: int | None = None
        self._open = True
        kind = _PngFolder if options.codec == "png" else _Encoder
        with self._discarding():
            self._sink = kind(self._temporary, size, time_base, options, facts)

    def write(self, pixels: Pixels, *, pts: int, alpha: Alpha | None = None) -> None:
        """Encode one frame; `pts` must be larger than the last one's."""
        if pixels.shape[:2] != (self.size[1], self.size[0]):
            raise ValueError(f"frame of {pixels.shape[1]}x{pixels.shape[0]}, not {self.size}")
        if self._last_pts is not None and pts <= self._last_pts:
            raise ValueError(f"pts {pts} after {self._last_pts}: times must increase")
        self._last_pts = pts
        with self._discarding():
            self._sink.write(pixels, pts, alpha)

    def close(self) -> None:
        """Finish the file, flush it to disk and put it at its path."""
        if not self._open:
            return
        with self._discarding():
            self._sink.close()
            put_in_place(self._temporary, self.path)
        self._open = False

    def discard(self) -> None:
        """Remove what was written; the path is left as it was."""
        if self._open:
            self._open = False
            with contextlib.suppress(OSError, av.error.FFmpegError, InputError):
                self._sink.close()
            remove(self._temporary)

    @contextlib.contextmanager
    def _discarding(self) -> Iterator[None]:
        try:
            with writing(self.path):
                yield
        except BaseException:
            self._open = False
            remove(self._temporary)
            raise

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind:
            self.discard()
        else:
            self.close()


class _PngFolder:
    """One PNG per frame, named by its time."""

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int],
        time_base: Fraction,
        options: CodecOptions,
        facts: VideoFacts,
    ) -> None:
        self.folder = folder
        remove(folder)
        folder.mkdir()

    def write(self, pixels: Pixels, pts: int, alpha: Alpha | None) -> None:
        (self.folder / f"{pts:+021d}.png").write_bytes(encode_image(pixels, alpha, ".png"))

    def close(self) -> None:
        """Nothing is open between frames."""


class _Encoder:
    """A video file, opened at the first frame because its header tells the first time."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        time_base: Fraction,
        options: CodecOptions,
        facts: VideoFacts,
    ) -> None:
        self.path, self.size, self.time_base = path, size, time_base
        self.options, self.facts = options, facts
        self.pixel_format = pixel_format(options, facts, size=size)
        self.tags = output_tags(facts.colour, self.pixel_format, options)
        self.converter = ColourConverter()
        self.container: OutputContainer | None = None
        self.shift = 0

    def write(self, pixels: Pixels, pts: int, alpha: Alpha | None) -> None:
        if self.container is None:
            self.shift = min(0, pts)
            self.container, self.stream = self._open()
        frame = self.converter.from_rgb(
            pixels, alpha, pixel_format=self.pixel_format, tags=self.tags
        )
        frame.pts, frame.time_base = pts - self.shift, self.time_base
        self._mux(self.container, self.stream.encode(frame))

    def close(self) -> None:
        if self.container is None:
            raise InputError(f"{self.path}", why="no frame was written", fix="give frames")
        try:
            self._mux(self.container, self.stream.encode(None))
        finally:
            self.container.close()

    def _open(self) -> tuple[OutputContainer, VideoStream]:
        codec = CODECS[self.options.codec]
        muxer = FORMATS[self.path.suffix.lower()][0]
        container = av.open(
            f"file:{self.path}", "w", format=muxer, container_options=muxer_options(self.time_base)
        )
        if self.shift:
            container.metadata[SHIFT_KEY] = f"{SHIFT_PREFIX}{self.shift}"
        stream = container.add_stream(
            codec.encoder,
            rate=encoder_rate(self.facts.frame_rate),
            options=self._encoder_options(),
            width=self.size[0],
            height=self.size[1],
            time_base=self.time_base,
        )
        assert isinstance(stream, VideoStream)
        stream.time_base = self.time_base
        context = stream.codec_context
        context.time_base, context.pix_fmt = self.time_base, self.pixel_format
        context.sample_aspect_ratio = self.facts.sample_aspect
        context.color_range = 2 if self.tags.full_range else 1
        context.colorspace = self.tags.matrix
        context.color_primaries, context.color_trc = self.tags.primaries, self.tags.transfer
        container.start_encoding()
        return container, stream

    def _encoder_options(self) -> dict[str, str]:
        codec, name = CODECS[self.options.codec], self.options.codec
        options = dict(codec.options)
        if codec.crf is not None:
            options["crf"] = str(codec.crf if self.options.crf is None else self.options.crf)
        if name == "prores":
            options["profile"] = "4444" if self.pixel_format.startswith("yuva") else "hq"
        written = encoder_parameters(self.facts.hdr, name) | lookahead_parameters(name, self.size)
        if written:
            key = ENCODER_PARAMETERS[name]
            text = ":".join(f"{k}={v}" for k, v in written.items())
            options[key] = f"{options[key]}:{text}" if key in options else text
        if name == "av1":
            os.environ.setdefault("SVT_LOG", "1")  # else the encoder prints its settings
        return options

    def _mux(self, container: OutputContainer, packets: Sequence[Any]) -> None:
        for packet in packets:
            if self.path.suffix.lower() == ".mkv":
                packet.time_base = MKV_TICK  # ticks as they are: its own rounding loses times
            container.mux_one(packet)


def output_tags(tags: ColourTags, pixel_format: str, options: CodecOptions) -> ColourTags:
    """Return the tags to encode with: the source's; BT.709 limited where the source is RGB."""
    if pixel_format.startswith(("bgr", "gbr", "rgb")):
        return replace(tags, matrix=RGB, full_range=True)
    if tags.matrix == RGB:
        tags = replace(tags, matrix=BT709, full_range=False)
    matrix = 9 if tags.matrix == 10 else tags.matrix
    full_range = tags.full_range and CODECS[options.codec].full_range
    return replace(tags, matrix=matrix, full_range=full_range)
