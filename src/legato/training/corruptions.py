"""Single corruptions of a degradation recipe: change of size, noise and JPEG.

Each is a frozen description with a `draw` that settles one clip's parameters, frame by frame, as a
*step*. A step can be looked at, and `apply` carries it out. Frames are RGB float32, nominally in
[0, 1]; noise and ringing may leave that range until the next quantisation. Frames of one clip may
differ in size between two resizes. Source of the defaults: RealBasicVSR's published configuration
(Chan et al. 2022, arXiv:2111.12704), first of its two stages.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from legato.errors import InputError
from legato.training.random_walk import Walk

Picture = Float32[ndarray, "_ _ 3"]
INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "bicubic": cv2.INTER_CUBIC}
SMALLEST_SIDE_PX = 2


@runtime_checkable
class Step(Protocol):
    """What one clip goes through, with all parameters settled."""

    def apply(self, frames: list[Picture], rng: np.random.Generator) -> list[Picture]:
        """Return the frames after this step; `rng` serves noise only."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """A change of size; bilinear and bicubic reduction alias, as they do in careless programs."""

    up_share: float = 0.2
    """Share of clips that are enlarged."""

    down_share: float = 0.7
    """Share of clips that are reduced; the rest keeps its size."""

    smallest: float = 0.15
    """Smallest size relative to the input, at most 1."""

    largest: float = 1.5
    """Largest size relative to the input, at least 1."""

    step: float = 0.015
    """Largest change of the relative size from one frame to the next."""

    interpolations: tuple[str, ...] = tuple(INTERPOLATIONS)
    """Names out of `INTERPOLATIONS`, equally likely."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.interpolations if name not in INTERPOLATIONS]
        shares = (self.up_share, self.down_share, 1 - self.up_share - self.down_share)
        if unknown or min(shares) < -1e-9 or not 0 < self.smallest <= 1 <= self.largest:
            raise InputError(
                repr(self),
                why="shares must be probabilities, sizes must enclose 1, interpolations be known",
                fix=f"use shares that sum to at most 1 and names out of {list(INTERPOLATIONS)}",
            )

    def draw(self, rng: np.random.Generator, num_frames: int) -> "ResizeStep":
        """Draw one clip's direction, interpolation and relative sizes."""
        place = rng.random()
        walk = Walk(1.0, 1.0)
        if place < self.up_share:
            walk = Walk(1.0, self.largest, self.step)
        elif place < self.up_share + self.down_share:
            walk = Walk(self.smallest, 1.0, self.step)
        return ResizeStep(
            scales=tuple(float(s) for s in walk.path(rng, num_frames)),
            interpolation=str(rng.choice(self.interpolations)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeStep:
    """One clip's drawn change of size, a factor for each frame."""

    scales: tuple[float, ...]
    interpolation: str

    def apply(self, frames: list[Picture], rng: np.random.Generator) -> list[Picture]:
        """Resize each frame by its factor to even rows and columns, at least 2."""
        return [
            resized(frame, even(frame.shape[0] * s), even(frame.shape[1] * s), self.interpolation)
            for frame, s in zip(frames, self.scales, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitStep:
    """A change to one given size for all frames."""

    rows: int
    columns: int
    interpolation: str

    def apply(self, frames: list[Picture], rng: np.random.Generator) -> list[Picture]:
        """Resize every frame to exactly `rows` and `columns`."""
        return [resized(frame, self.rows, self.columns, self.interpolation) for frame in frames]


def even(length_px: float) -> int:
    """Round a length down to an even number of pixels, at least 2."""
    return max(SMALLEST_SIDE_PX, 2 * int(length_px / 2))


def resized(frame: Picture, rows: int, columns: int, interpolation: str) -> Picture:
    """Resample one frame; the corners of the picture stay where they are."""
    if frame.shape[:2] == (rows, columns):
        return frame
    picture: Picture = cv2.resize(
        frame, (columns, rows), interpolation=INTERPOLATIONS[interpolation]
    )
    return picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Additive Gaussian noise, or Poisson noise that grows with brightness."""

    gaussian_share: float = 0.5
    """Share of clips with Gaussian noise; the rest has Poisson noise."""

    sigma: Walk = Walk(1.0, 30.0, 0.1)
    """Standard deviation of the Gaussian noise in 8-bit units."""

    poisson_scale: Walk = Walk(0.05, 3.0, 0.005)
    """Factor on the Poisson noise."""

    grey_probability: float = 0.4
    """Share of clips whose noise is the same in all three channels."""

    fewest_photons: int = 1
    """Smallest number of photons at white that Poisson noise counts. The paper's rule takes the
    picture's number of levels, which drowns a flat crop; 64 prevents that."""

    def draw(self, rng: np.random.Generator, num_frames: int) -> "NoiseStep":
        """Draw one clip's kind of noise and its strength over time."""
        kind: Literal["gaussian", "poisson"] = "poisson"
        walk = self.poisson_scale
        if rng.random() < self.gaussian_share:
            kind, walk = "gaussian", self.sigma
        is_grey = bool(rng.random() < self.grey_probability)
        levels = tuple(float(level) for level in walk.path(rng, num_frames))
        return NoiseStep(
            kind=kind, is_grey=is_grey, levels=levels, fewest_photons=self.fewest_photons
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseStep:
    """One clip's drawn noise, a strength for each frame."""

    kind: Literal["gaussian", "poisson"]
    is_grey: bool
    levels: tuple[float, ...]
    fewest_photons: int = 1

    def apply(self, frames: list[Picture], rng: np.random.Generator) -> list[Picture]:
        """Add noise that is independent from frame to frame."""
        noise = self._gaussian if self.kind == "gaussian" else self._poisson
        return [
            frame + noise(frame, level, rng)
            for frame, level in zip(frames, self.levels, strict=True)
        ]

    def _gaussian(
        self, frame: Picture, level: float, rng: np.random.Generator
    ) -> Float32[ndarray, "_ _ _"]:
        shape = (*frame.shape[:2], 1 if self.is_grey else 3)
        noise = rng.standard_normal(shape, dtype=np.float32)
        noise *= level / 255
        return noise

    def _poisson(
        self, frame: Picture, level: float, rng: np.random.Generator
    ) -> Float32[ndarray, "_ _ _"]:
        """Photon noise; white is as many photons as the picture has levels, to a power of two."""
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None] if self.is_grey else frame
        stored = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
        num_levels = int(np.count_nonzero(np.bincount(stored.ravel(), minlength=256)))
        photons = 2.0 ** math.ceil(math.log2(max(num_levels, self.fewest_photons)))
        clean = stored / 255
        noise = rng.poisson(clean * photons) / photons - clean
        scaled: Float32[ndarray, "_ _ _"] = (noise * level).astype(np.float32)
        return scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class Jpeg:
    """JPEG compression of every frame by itself."""

    quality: Walk = Walk(30.0, 95.0, 3.0)
    """JPEG quality, 0 to 100."""

    def draw(self, rng: np.random.Generator, num_frames: int) -> "JpegStep":
        """Draw one clip's qualities."""
        return JpegStep(
            qualities=tuple(round(quality) for quality in self.quality.path(rng, num_frames))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegStep:
    """One clip's drawn JPEG compression, a quality for each frame."""

    qualities: tuple[int, ...]

    def apply(self, frames: list[Picture], rng: np.random.Generator) -> list[Picture]:
        """Round to 8 bits, encode and decode each frame."""
        return [
            _jpeg(frame, quality) for frame, quality in zip(frames, self.qualities, strict=True)
        ]


def _jpeg(frame: Picture, quality: int) -> Picture:
    stored = np.rint(frame.clip(0, 1) * 255).astype(np.uint8)
    written, data = cv2.imencode(
        ".jpg", cv2.cvtColor(stored, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert written, "any 8-bit RGB picture can be written as JPEG"
    shown = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    picture: Picture = shown.astype(np.float32) / 255
    return picture
