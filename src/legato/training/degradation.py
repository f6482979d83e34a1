"""Make the low-resolution input of training from good clips.

`second_order` is the video degradation of RealBasicVSR (Chan et al. 2022, arXiv:2111.12704,
section 3.3), which also trained Upscale-A-Video (arXiv:2312.06640): blur, resize, noise, JPEG and
video compression, twice, every parameter drawn once per clip and walking from frame to frame.
`fast` is one round of the damage that the project measures at, over wider ranges.
"""

import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from legato.errors import InputError
from legato.evaluation.datasets import SEVERITIES, Severity, degrade
from legato.training.blur import Blur
from legato.training.corruptions import INTERPOLATIONS, FitStep, Jpeg, Noise, Resize, Step
from legato.training.random_walk import Walk
from legato.training.video_compression import VideoCodec

__all__ = [
    "SMALL_CROPS",
    "WIDE",
    "Blur",
    "Jpeg",
    "Noise",
    "Resize",
    "SecondOrder",
    "VideoCodec",
    "Walk",
    "fast",
    "mixed",
    "second_order",
    "sharpen",
]


WIDE = Severity(
    blur_sigma_px=(0.2, 3.2),
    blur_axis_ratio=(0.6, 1.5),
    noise_sigma=(0.0, 18.0),
    jpeg_quality=(35, 95),
    jpeg_probability=0.6,
    crf=(16, 35),
    crf_probability=0.85,
)
"""Ranges of `fast`: the levels of the measurements lie inside."""

MEASURED = tuple(replace(SEVERITIES[name], repeatable=False) for name in ("s1", "s1", "s2", "s3"))
"""Levels of the measurements, equally likely; the mildest twice, for it is learned last."""

ALIKE_SHARE = 0.75
"""Share of `fast` clips whose kinds of damage are about equally bad, as they are in most videos; a
network that cannot count on it sharpens every smooth picture."""

MILDNESS = 1.5
"""Power of the uniform number that is a clip's level: 1 would make light damage, which a network
learns last, no more frequent than heavy damage."""

SPREAD = 0.2
"""How far a kind of damage strays from the clip's own level, as a share of its range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOrder:
    """All parameters of the second-order degradation, in the order in which they act."""

    blur_1: Blur = Blur()
    resize_1: Resize = Resize()
    noise_1: Noise = Noise()
    jpeg_1: Jpeg = Jpeg()
    video_1: VideoCodec = VideoCodec()

    blur_2: Blur = Blur(probability=0.8, sigma_px=Walk(0.2, 1.5, 0.02))
    resize_2: Resize = Resize(up_share=0.3, down_share=0.4, smallest=0.3, largest=1.2, step=0.03)
    noise_2: Noise = Noise(sigma=Walk(1.0, 25.0, 0.1), poisson_scale=Walk(0.05, 2.5, 0.005))
    jpeg_2: Jpeg = Jpeg()

    video_2: VideoCodec = VideoCodec()
    """Before or after the last two, with equal chances."""

    last_interpolations: tuple[str, ...] = tuple(INTERPOLATIONS)
    """Interpolations of the resize to the final size, equally likely."""

    last_blur: Blur = field(
        default_factory=lambda: Blur(
            probability=0.8,
            kinds=(("sinc", 1.0),),
            omega_large_rad=Walk(math.pi / 3, math.pi, math.pi / 50),
        )
    )
    """Ringing that follows the resize to the final size."""

    def draw(
        self, rng: np.random.Generator, num_frames: int, size: tuple[int, int]
    ) -> tuple[Step, ...]:
        """Settle one clip's parameters.

        Args:
            rng: the only source of randomness.
            num_frames: frames of the clip.
            size: rows and columns of the result.
        """
        stages: list[Step | None] = [
            self.blur_1.draw(rng, num_frames),
            self.resize_1.draw(rng, num_frames),
            self.noise_1.draw(rng, num_frames),
            self.jpeg_1.draw(rng, num_frames),
            self.video_1.draw(rng),
            self.blur_2.draw(rng, num_frames),
            self.resize_2.draw(rng, num_frames),
            self.noise_2.draw(rng, num_frames),
            self.jpeg_2.draw(rng, num_frames),
        ]
        video: list[Step | None] = [self.video_2.draw(rng)]
        interpolation = str(rng.choice(self.last_interpolations))
        fit: list[Step | None] = [
            FitStep(rows=size[0], columns=size[1], interpolation=interpolation),
            self.last_blur.draw(rng, num_frames),
        ]
        stages += video + fit if rng.random() < 0.5 else fit + video
        return tuple(stage for stage in stages if stage is not None)


_PAPER = SecondOrder()
SMALL_CROPS = replace(
    _PAPER,
    noise_1=replace(_PAPER.noise_1, fewest_photons=64),
    noise_2=replace(_PAPER.noise_2, fewest_photons=64),
    video_1=VideoCodec(by_quantiser=True),
    video_2=VideoCodec(by_quantiser=True),
)
"""The paper's recipe, mended where it assumes 30 frames of 256 x 256 pixels: video compression that
shows in short clips of small crops, and Poisson noise that does not drown a flat crop."""


def second_order(
    clip: UInt8[ndarray, "T H W 3"],
    rng: np.random.Generator,
    *,
    scale: int = 4,
    options: SecondOrder | None = None,
) -> UInt8[ndarray, "T h w 3"]:
    """Degrade and reduce a clip; the result has exactly H // scale rows and W // scale columns.

    In the paper the input is made from the *sharpened* ground truth: pass `sharpen(clip)`.

    Args:
        clip: RGB; rows and columns beyond a multiple of `scale` are left out, at the bottom and at
            the right, so that a pixel of the result covers exactly `scale` x `scale` pixels.
        rng: the only source of randomness; a seed settles the result.
        scale: full-size pixels per pixel of the result, along each axis.
        options: ranges and probabilities; None is the paper's.

    Raises:
        InputError: a clip without frames, or smaller than one pixel of the result.
    """
    num_frames, rows, columns = len(clip), clip.shape[1] // scale, clip.shape[2] // scale
    if min(num_frames, rows, columns) < 1:
        raise InputError(
            f"clip of {num_frames} frames, {clip.shape[1]} rows, {clip.shape[2]} columns",
            why=f"at scale {scale} nothing would be left of it",
            fix=f"give at least one frame of {scale} x {scale} pixels",
        )
    whole = clip[:, : rows * scale, : columns * scale]
    frames = [frame.astype(np.float32) / 255 for frame in whole]
    for step in (options or SecondOrder()).draw(rng, num_frames, (rows, columns)):
        frames = step.apply(frames, rng)
    if frames[0].shape[:2] != (rows, columns):  # the last codec rounds odd sizes to even ones
        frames = FitStep(rows=rows, columns=columns, interpolation="bicubic").apply(frames, rng)
    return np.stack([_stored(frame) for frame in frames])


def fast(clip: UInt8[ndarray, "T H W 3"], rng: np.random.Generator) -> UInt8[ndarray, "T h w 3"]:
    """Degrade and reduce a clip by four in one round, within `WIDE`; mostly all kinds alike.

    Args:
        clip: RGB, at least one frame of 4 x 4 pixels.
        rng: the only source of randomness.
    """
    mild = float(rng.random()) ** MILDNESS
    severity = _alike(mild) if rng.random() < ALIKE_SHARE else WIDE
    return degrade(clip, severity, rng)


def _alike(level: float) -> Severity:
    """Return the part of `WIDE` around a level from 0, the mildest, to 1."""
    low, high = max(0.0, level - SPREAD), min(1.0, level + SPREAD)

    def part(
        bounds: tuple[float, float] | tuple[int, int], *, worst_first: bool = False
    ) -> tuple[float, float]:
        ends = (1 - high, 1 - low) if worst_first else (low, high)
        first, last = (bounds[0] + end * (bounds[1] - bounds[0]) for end in ends)
        return first, last

    def whole(bounds: tuple[float, float]) -> tuple[int, int]:
        return round(bounds[0]), round(bounds[1])

    assert WIDE.jpeg_quality is not None
    assert WIDE.crf is not None
    return replace(
        WIDE,
        blur_sigma_px=part(WIDE.blur_sigma_px),
        noise_sigma=part(WIDE.noise_sigma),
        jpeg_quality=whole(part(WIDE.jpeg_quality, worst_first=True)),
        jpeg_probability=min(1.0, 0.2 + level),
        crf=whole(part(WIDE.crf)),
        crf_probability=0.95,
    )


def mixed(
    clip: UInt8[ndarray, "T H W 3"],
    rng: np.random.Generator,
    *,
    second_order_share: float,
    measured_share: float = 0.0,
    options: SecondOrder | None = None,
) -> UInt8[ndarray, "T h w 3"]:
    """Degrade and reduce a clip by four by `second_order`, as measured, or by `fast`.

    Args:
        clip: RGB, at least one frame of 4 x 4 pixels.
        rng: the only source of randomness.
        second_order_share: probability of `second_order`.
        measured_share: probability of one of `MEASURED`.
        options: ranges and probabilities of `second_order`; None is `SMALL_CROPS`.

    Raises:
        InputError: the shares are not probabilities.
    """
    if not (second_order_share >= 0 <= measured_share and second_order_share + measured_share <= 1):
        raise InputError(
            f"second_order_share={second_order_share} and measured_share={measured_share}",
            why="they are probabilities",
            fix="use numbers from 0 to 1, together at most 1",
        )
    kind = rng.random()
    if kind < second_order_share:
        return second_order(clip, rng, options=options or SMALL_CROPS)
    if kind < second_order_share + measured_share:
        return degrade(clip, MEASURED[int(rng.integers(len(MEASURED)))], rng)
    return fast(clip, rng)


def sharpen(clip: UInt8[ndarray, "T H W 3"]) -> UInt8[ndarray, "T H W 3"]:
    """Sharpen the ground truth by unsharp masking where it differs from its surroundings.

    With b the picture blurred (51 pixels, sigma 8), d = y - b and m = blur(|d| > 10/255), the
    result is m clip(y + d / 2) + (1 - m) y (Real-ESRGAN, arXiv:2107.10833, section 3.4).
    """
    return np.stack([_stored(_sharpened(frame.astype(np.float32) / 255)) for frame in clip])


def _sharpened(y: Float32[ndarray, "H W 3"]) -> Float32[ndarray, "H W 3"]:
    d = y - cv2.GaussianBlur(y, (51, 51), 8.0)
    m = cv2.GaussianBlur((np.abs(d) * 255 > 10).astype(np.float32), (51, 51), 8.0)
    sharpened: Float32[ndarray, "H W 3"] = m * (y + 0.5 * d).clip(0, 1) + (1 - m) * y
    return sharpened


def _stored(frame: Float32[ndarray, "H W 3"]) -> UInt8[ndarray, "H W 3"]:
    stored: UInt8[ndarray, "H W 3"] = np.rint(frame.clip(0, 1) * 255).astype(np.uint8)
    return stored
