"""Numbers drawn once per clip that then wander a little from frame to frame.

Real damage drifts within a shot: focus breathes, noise follows the exposure. RealBasicVSR (Chan et
al. 2022, arXiv:2111.12704, section 3.3 and its published configuration) therefore draws each
parameter once per clip and lets it walk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from legato.errors import InputError

Name = TypeVar("Name", bound=str)
Mixture = tuple[tuple[Name, float], ...]
"""Pairs of a name and its probability; the probabilities sum to 1."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A uniform start in [low, high], then uniform steps up to `step`, kept inside the range."""

    low: float
    """Smallest value, included."""

    high: float
    """Largest value, included."""

    step: float = 0.0
    """Largest change from one frame to the next; 0 keeps the value for the whole clip."""

    def __post_init__(self) -> None:
        if not (self.low <= self.high and self.step >= 0):
            raise InputError(
                f"Walk(low={self.low}, high={self.high}, step={self.step})",
                why="a walk needs low <= high and a step that is not negative",
                fix="swap the bounds or use a step of 0 or more",
            )

    def path(self, rng: np.random.Generator, num_frames: int) -> Float64[ndarray, "T"]:
        """Draw the value of every frame of a clip.

        Args:
            rng: the only source of randomness.
            num_frames: at least 1.
        """
        path = np.empty(num_frames)
        path[0] = rng.uniform(self.low, self.high)
        steps = rng.uniform(-self.step, self.step, num_frames - 1)
        for index, step in enumerate(steps):
            path[index + 1] = min(max(path[index] + step, self.low), self.high)
        return path


def choose(rng: np.random.Generator, mixture: Mixture[Name]) -> Name:
    """Draw one name of a mixture with its probability."""
    names = [name for name, _ in mixture]
    return names[int(rng.choice(len(names), p=[share for _, share in mixture]))]


def check_mixture(field: str, mixture: Mixture[Name], allowed: Sequence[str]) -> None:
    """Refuse a mixture whose names are unknown or whose probabilities do not sum to 1.

    Raises:
        InputError: an unknown name, a negative probability, or a sum other than 1.
    """
    unknown = [name for name, _ in mixture if name not in allowed]
    shares = [share for _, share in mixture]
    if unknown or not mixture or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(
            f"{field}={mixture}",
            why=f"names must be among {list(allowed)} and probabilities must sum to 1",
            fix="list each name once and make the probabilities sum to 1",
        )
