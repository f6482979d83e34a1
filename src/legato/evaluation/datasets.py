"""Damage clean clips the way old and compressed videos are damaged, repeatably.

The order is the one in which a video is made: blur of the lens at full size, reduction by four,
noise of the sensor, JPEG of the camera, x264 of the distributor. `SEVERITIES` are the levels that
every figure of the project is measured at; training draws from the same function with wider ranges.
"""

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import InputError
from legato.video.recode import recoded

SCALE = 4
Reduction = Literal["area", "bilinear", "bicubic"]
_INTERPOLATION: dict[Reduction, int] = {
    "area": cv2.INTER_AREA,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
}
_MACROBLOCK_PX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    """Ranges from which a clip's damage is drawn uniformly, once; only the blur walks a little."""

    blur_sigma_px: tuple[float, float] = (0.0, 0.0)
    """Standard deviation of the Gaussian blur along x, in pixels of the full size."""

    blur_axis_ratio: tuple[float, float] = (0.7, 1.3)
    """Standard deviation along y over that along x."""

    blur_walk: float = 0.02
    """Standard deviation, per frame, of the random walk of the blur's logarithm."""

    reductions: tuple[Reduction, ...] = ("area", "bilinear", "bicubic")
    """Ways to reduce by four, one drawn per clip; as OpenCV does them, without a prefilter."""

    noise_sigma: tuple[float, float] = (0.0, 0.0)
    """Standard deviation of the Gaussian noise, in 8-bit units."""

    jpeg_quality: tuple[int, int] | None = None
    """JPEG quality, drawn once and applied to each frame by itself; None: no JPEG."""

    jpeg_probability: float = 1.0
    """Share of the clips that get JPEG."""

    crf: tuple[int, int] | None = None
    """Constant rate factor of x264, preset medium; None: no video compression."""

    crf_probability: float = 1.0
    """Share of the clips that get x264."""

    repeatable: bool = False
    """Keep x264 to plain C: the same bits every time, four times as slow. Its assembly reads memory
    that nothing has written when pictures are small, so now and then another run differs."""

    def __post_init__(self) -> None:
        if not self.reductions:
            raise InputError(
                "reductions=()",
                why="every clip is reduced in one of the ways listed",
                fix=f"give some of {', '.join(_INTERPOLATION)}",
            )


_S1 = Severity(blur_sigma_px=(0.4, 1.0), noise_sigma=(0.0, 3.0), crf=(20, 20), repeatable=True)
SEVERITIES: dict[str, Severity] = {
    "s1": _S1,
    "s2": replace(
        _S1, blur_sigma_px=(0.9, 1.8), noise_sigma=(3.0, 9.0), jpeg_quality=(65, 65), crf=(26, 26)
    ),
    "s3": replace(
        _S1, blur_sigma_px=(1.6, 2.8), noise_sigma=(8.0, 16.0), jpeg_quality=(45, 45), crf=(31, 31)
    ),
}


def seed_of(name: str) -> int:
    """Return a seed that depends on a clip's name only, the same on every machine.

    Args:
        name: file name without folder and suffix.
    """
    raw = name.encode("utf-8", "surrogateescape")  # a name may be no text
    return int.from_bytes(hashlib.sha256(raw).digest()[:8], "big")


def degrade(
    clip: UInt8[ndarray, "T H W 3"], severity: Severity, rng: np.random.Generator
) -> UInt8[ndarray, "T h w 3"]:
    """Blur, reduce by four, add noise and compress a clip.

    Args:
        clip: RGB frames of one shot; rows and columns beyond a multiple of four are cut off.
        severity: ranges to draw from.
        rng: source of every random number; `np.random.default_rng(seed_of(name))` for measuring.

    Returns:
        RGB frames with h = H // 4, w = W // 4.

    Raises:
        InputError: the clip has no frame, or less than four rows or columns.
    """
    num_frames, rows, cols = len(clip), clip.shape[1] // SCALE, clip.shape[2] // SCALE
    if not (num_frames and rows and cols):
        raise InputError(
            f"clip of {num_frames} frames, {clip.shape[2]}x{clip.shape[1]}",
            why=f"a reduction by {SCALE} leaves nothing",
            fix=f"use at least one frame of {SCALE}x{SCALE}",
        )
    sigma_x = rng.uniform(*severity.blur_sigma_px)
    sigma_y = sigma_x * rng.uniform(*severity.blur_axis_ratio)
    reduction = severity.reductions[rng.integers(len(severity.reductions))]
    noise_sigma = rng.uniform(*severity.noise_sigma)
    quality = _draw(severity.jpeg_quality, severity.jpeg_probability, rng)
    crf = _draw(severity.crf, severity.crf_probability, rng)
    walk = np.exp(np.cumsum(rng.normal(0.0, severity.blur_walk, size=num_frames)))
    frames = np.empty((num_frames, rows, cols, 3), np.uint8)
    for index, gain in enumerate(walk):
        picture = clip[index, : rows * SCALE, : cols * SCALE].astype(np.float32)
        picture = _blur(picture, sigma_x * gain, sigma_y * gain)
        picture = cv2.resize(picture, (cols, rows), interpolation=_INTERPOLATION[reduction])
        if noise_sigma > 0:
            picture += noise_sigma * rng.standard_normal(picture.shape, dtype=np.float32)
        frames[index] = picture.clip(0, 255).round()
        if quality is not None:
            frames[index] = _jpeg(frames[index], quality)
    return frames if crf is None else _x264(frames, crf, severity.repeatable)


def _draw(
    bounds: tuple[int, int] | None, probability: float, rng: np.random.Generator
) -> int | None:
    # two numbers always, so that switching one kind of damage off leaves the others as they were
    happens, place = rng.random(2)
    if bounds is None or happens >= probability:
        return None
    low, high = bounds
    return min(high, low + int(place * (high - low + 1)))


def _blur(picture: ndarray, sigma_x: float, sigma_y: float) -> ndarray:
    if max(sigma_x, sigma_y) < 0.05:
        return picture
    sigma_x, sigma_y = max(sigma_x, 0.05), max(sigma_y, 0.05)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y))


def _jpeg(picture: ndarray, quality: int) -> ndarray:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]


def _x264(frames: ndarray, crf: int, repeatable: bool) -> ndarray:
    """Encode and decode with x264 in memory, 4:2:0, in one thread."""
    _, rows, cols, _ = frames.shape
    coded_rows, coded_cols = (-(-n // _MACROBLOCK_PX) * _MACROBLOCK_PX for n in (rows, cols))
    padding = ((0, 0), (0, coded_rows - rows), (0, coded_cols - cols), (0, 0))
    padded = (
        np.pad(frames, padding, mode="edge") if (coded_rows, coded_cols) != (rows, cols) else frames
    )
    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    assert isinstance(encoder, av.VideoCodecContext)
    assert isinstance(decoder, av.VideoCodecContext)
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"crf": str(crf), "preset": "medium"}
    if repeatable:
        encoder.options |= {"x264-params": "asm=0"}
    return recoded(padded, encoder, decoder)[:, :rows, :cols]
