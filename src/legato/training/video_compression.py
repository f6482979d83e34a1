"""Send frames through a lossy video codec and back, in memory.

Source: RealBasicVSR (Chan et al. 2022, arXiv:2111.12704): a random codec and bit rate per clip.
An encoder cannot steer towards a bit rate within a few frames, and on small crops the paper's rates
are never short: 128 x 128 pixels come back at 43 dB and more. Hence the choice of quantisers.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext
from jaxtyping import Float32, UInt8
from numpy import ndarray

from legato.errors import InputError, ResourceError
from legato.training.random_walk import Mixture, check_mixture, choose
from legato.video.recode import recoded

DECODERS = {"libx264": "h264", "h264": "h264", "mpeg4": "mpeg4"}
QUANTISERS = {"libx264": (18, 35), "h264": (18, 35), "mpeg4": (2, 16)}
"""Strength where it is set directly, both ends included: x264's rate factor, MPEG-4's quantiser."""
SMALLEST_SIDE_PX = 2  # 4:2:0 chroma needs one sample per two pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoCodec:
    """How a clip is compressed: which codec, and how many bits per second."""

    probability: float = 1.0
    """Share of clips that are compressed."""

    codecs: Mixture[str] = (("libx264", 1 / 3), ("h264", 1 / 3), ("mpeg4", 1 / 3))
    """Encoders and their probabilities."""

    lowest_bit_rate: int = 10_000
    """Bits per second, included, at least 1000: x264 counts in thousands."""

    highest_bit_rate: int = 100_000
    """Bits per second, not included."""

    frame_rate: int = 1
    """Frames per second that the encoder is told; at 1 the bit rate counts bits per frame."""

    by_quantiser: bool = False
    """Draw a strength out of `QUANTISERS` instead of a bit rate: for short or small clips."""

    def __post_init__(self) -> None:
        check_mixture("codecs", self.codecs, list(DECODERS))
        if not 1000 <= self.lowest_bit_rate < self.highest_bit_rate or self.frame_rate < 1:
            raise InputError(
                f"bit rates {self.lowest_bit_rate} to {self.highest_bit_rate} bit/s "
                f"at {self.frame_rate} frames/s",
                why="rates must be at least 1000 and the lowest below the highest",
                fix="use for example 10000 to 100000 at 1 frame per second",
            )

    def draw(self, rng: np.random.Generator) -> "VideoStep | None":
        """Draw one clip's codec and bit rate, or None where the clip is spared."""
        if rng.random() >= self.probability:
            return None
        codec, quantiser = choose(rng, self.codecs), None
        bit_rate = int(rng.integers(self.lowest_bit_rate, self.highest_bit_rate))
        if self.by_quantiser:
            quantiser = int(rng.integers(*QUANTISERS[codec], endpoint=True))
        return VideoStep(
            codec=codec, bit_rate=bit_rate, frame_rate=self.frame_rate, quantiser=quantiser
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoStep:
    """One clip's drawn compression."""

    codec: str
    bit_rate: int
    frame_rate: int
    quantiser: int | None = None
    """Strength that replaces the bit rate."""

    def apply(
        self, frames: list[Float32[ndarray, "_ _ 3"]], rng: np.random.Generator
    ) -> list[Float32[ndarray, "_ _ 3"]]:
        """Compress frames in [0, 1]; all come back at the first frame's size, made even.

        Differs: pixels are rounded to 8 bits; the reference truncates, which darkens the picture.

        Args:
            frames: RGB; later frames may have other sizes and are resized to the first one's.
            rng: not used; every step of a recipe has the same signature.
        """
        rows, columns = (max(SMALLEST_SIDE_PX, n - n % 2) for n in frames[0].shape[:2])
        stored = [np.rint(_fit(frame, rows, columns).clip(0, 1) * 255) for frame in frames]
        clip = np.stack(stored).astype(np.uint8)
        shown = compress(clip, self)
        return [frame.astype(np.float32) / 255 for frame in shown]


def compress(clip: UInt8[ndarray, "T H W 3"], step: VideoStep) -> UInt8[ndarray, "T H W 3"]:
    """Encode RGB frames as 4:2:0 video and decode them again.

    The same clip gives the same bits: one thread on both sides, and x264 without its macroblock
    tree, whose lookahead was measured to vary from call to call on short clips.

    Args:
        clip: RGB; rows and columns even, at least 2.
        step: the codec and its strength.

    Raises:
        InputError: odd rows or columns.
        ResourceError: this build of PyAV lacks the encoder or the decoder.
    """
    rows, columns = clip.shape[1:3]
    if rows % 2 or columns % 2:
        raise InputError(
            f"clip of {rows} rows and {columns} columns",
            why="4:2:0 chroma covers two pixels in each direction",
            fix="crop or resize to even rows and columns",
        )
    encoder, decoder = _open(step.codec, "w"), _open(DECODERS[step.codec], "r")
    encoder.bit_rate, encoder.framerate = step.bit_rate, Fraction(step.frame_rate)
    encoder.time_base = Fraction(1, step.frame_rate)
    encoder.options = _encoder_options(step)
    return recoded(clip, encoder, decoder)


def _encoder_options(step: VideoStep) -> dict[str, str]:
    is_mpeg4 = step.codec == "mpeg4"
    options = {} if is_mpeg4 else {"mbtree": "0"}
    if step.quantiser is not None:
        names = ("qmin", "qmax") if is_mpeg4 else ("crf",)
        options |= dict.fromkeys(names, str(step.quantiser))
    return options


def _open(name: str, mode: Literal["r", "w"]) -> VideoCodecContext:
    try:
        context = av.CodecContext.create(av.Codec(name, mode))
    except UnknownCodecError as error:
        raise ResourceError(
            f"codec {name!r}",
            why="this build of PyAV (FFmpeg) does not contain it",
            fix="install PyAV's wheel from PyPI, or leave the codec out of VideoCodec.codecs",
        ) from error
    assert isinstance(context, VideoCodecContext)
    return context


def _fit(
    frame: Float32[ndarray, "_ _ 3"], rows: int, columns: int
) -> Float32[ndarray, "rows columns 3"]:
    if frame.shape[:2] == (rows, columns):
        return frame
    resized: Float32[ndarray, "rows columns 3"] = cv2.resize(
        frame, (columns, rows), interpolation=cv2.INTER_LINEAR
    )
    return resized
