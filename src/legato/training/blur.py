"""Blur of a clip by a random kernel that wanders from frame to frame.

Source of the defaults: RealBasicVSR's published configuration (Chan et al. 2022,
arXiv:2111.12704), first of its two stages.
"""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from legato.training import kernels
from legato.training.corruptions import Picture
from legato.training.random_walk import Mixture, Walk, check_mixture, choose

BlurKind = Literal["iso", "aniso", "gen-iso", "gen-aniso", "plateau-iso", "plateau-aniso", "sinc"]
BLUR_KINDS = ("iso", "aniso", "gen-iso", "gen-aniso", "plateau-iso", "plateau-aniso", "sinc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blur:
    """A blur of one kind and size per clip, whose width, direction and shape wander."""

    probability: float = 1.0
    """Share of clips that are blurred."""

    sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    """Kernel rows and columns in pixels, equally likely, odd."""

    kinds: Mixture[BlurKind] = (
        ("iso", 0.405),
        ("aniso", 0.225),
        ("gen-iso", 0.108),
        ("gen-aniso", 0.027),
        ("plateau-iso", 0.108),
        ("plateau-aniso", 0.027),
        ("sinc", 0.1),
    )
    """Kernel shapes and their probabilities."""

    sigma_px: Walk = Walk(0.2, 3.0, 0.02)
    """Width along each principal axis; the isotropic kinds draw one."""

    angle_rad: Walk = Walk(-math.pi, math.pi, math.pi / 10)
    """Direction of the first principal axis."""

    beta_gaussian: Walk = Walk(0.5, 4.0, 0.05)
    """Shape of the generalised Gaussian kinds."""

    beta_plateau: Walk = Walk(1.0, 2.0, 0.1)
    """Shape of the plateau kinds."""

    omega_small_rad: Walk = Walk(math.pi / 3, math.pi, math.pi / 50)
    """Cut-off of sinc kernels of less than 13 pixels."""

    omega_large_rad: Walk = Walk(math.pi / 5, math.pi, math.pi / 50)
    """Cut-off of sinc kernels of 13 pixels and more."""

    def __post_init__(self) -> None:
        check_mixture("kinds", self.kinds, BLUR_KINDS)

    def draw(self, rng: np.random.Generator, num_frames: int) -> "BlurStep | None":
        """Draw one clip's kernels, or None where the clip is spared."""
        if rng.random() >= self.probability:
            return None
        size, kind = int(rng.choice(self.sizes)), choose(rng, self.kinds)
        if kind == "sinc":
            walk = self.omega_small_rad if size < 13 else self.omega_large_rad
            paths = walk.path(rng, num_frames)
            return BlurStep(kind=kind, kernels=tuple(kernels.sinc(size, w) for w in paths))
        return BlurStep(kind=kind, kernels=self._bells(rng, num_frames, kind, size))

    def _bells(
        self, rng: np.random.Generator, num_frames: int, kind: BlurKind, size: int
    ) -> tuple[kernels.Kernel, ...]:
        sigma_x = sigma_y = self.sigma_px.path(rng, num_frames)
        angle = np.zeros(num_frames)
        if kind.endswith("aniso"):
            sigma_y = self.sigma_px.path(rng, num_frames)
            angle = self.angle_rad.path(rng, num_frames)
        beta = np.ones(num_frames)
        if kind.startswith("gen"):
            beta = _between_one_and(self.beta_gaussian.path(rng, num_frames), rng)
        elif kind.startswith("plateau"):
            beta = _between_one_and(self.beta_plateau.path(rng, num_frames), rng)
        shape = kernels.plateau if kind.startswith("plateau") else kernels.gaussian
        return tuple(
            shape(size, sx, sy, a, beta=b)
            for sx, sy, a, b in zip(sigma_x, sigma_y, angle, beta, strict=True)
        )


def _between_one_and(
    beta: Float64[ndarray, "T"], rng: np.random.Generator
) -> Float64[ndarray, "T"]:
    """Place the shape between 1 and beta.

    Differs: the reference draws this place anew for every frame, which makes the kernel flicker;
    here once per clip, so that the distribution is the same and the walk stays a walk.
    """
    place = rng.uniform()
    return 1 + place * (beta - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurStep:
    """One clip's drawn blur, a kernel for each frame."""

    kind: BlurKind
    kernels: tuple[kernels.Kernel, ...]

    def apply(self, frames: list[Picture], rng: np.random.Generator) -> list[Picture]:
        """Filter each frame with its kernel; the picture is mirrored at its borders."""
        return [
            cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
            for frame, kernel in zip(frames, self.kernels, strict=True)
        ]
