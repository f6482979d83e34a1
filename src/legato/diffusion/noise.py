"""Noise that depends on a frame's time and on nothing else.

Never on window, tile, segment, batch or device: a part of a video gets the noise that the whole
would have given it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from legato.errors import InputError

PriorKind = Literal["independent", "mixed", "progressive"]
PRIORS: tuple[PriorKind, ...] = get_args(PriorKind)
REMEMBERED = 1e-4
"""Frames further back than where progressive noise keeps this share are left out of it."""


@dataclass(frozen=True, kw_only=True)
class NoisePrior:
    """How the noise of a clip's frames hangs together (Ge et al. 2023, PYoCo, arXiv:2305.10474).

    With r = a / sqrt(1 + a^2) and s = 1 / sqrt(1 + a^2), mixed noise is r shared + s own, and
    progressive noise is r of the frame before + s own. A model is sampled as it was trained.
    """

    kind: str = "independent"
    """One of `PRIORS`."""
    strength: float = 1.0
    """a: 0 is independent."""

    def __post_init__(self) -> None:
        if self.kind not in PRIORS or not 0 <= self.strength <= 10:
            raise InputError(
                f"noise prior {self.kind!r} of strength {self.strength:g}",
                why="unknown, or its strength is not from 0 to 10",
                fix=f"use {', '.join(PRIORS)}",
            )

    @property
    def weights(self) -> tuple[float, float]:
        """r and s."""
        own = (1 + self.strength**2) ** -0.5
        return self.strength * own, own

    def join(
        self, own: Float[Tensor, "B T *rest"], shared: Float[Tensor, "B 1 *rest"]
    ) -> Float[Tensor, "B T *rest"]:
        """Return the noise of clips from independent draws, for training.

        Progressive noise begins with the shared draw, so that its first frame is normal too.
        """
        r, s = self.weights
        if self.kind == "independent":
            return own
        if self.kind == "mixed":
            return r * shared + s * own
        frames = [shared]
        for k in range(own.shape[1]):
            frames.append(r * frames[-1] + s * own[:, k : k + 1])
        return torch.cat(frames[1:], dim=1)


INDEPENDENT = NoisePrior()


def frame_noise(
    shape: Sequence[int],
    *,
    seed: int,
    purpose: str,
    ticks: Sequence[int],
    prior: NoisePrior = INDEPENDENT,
) -> Float[Tensor, "T *shape"]:
    """Return standard normal noise, one draw of `shape` per frame, float32 on the CPU.

    Args:
        shape: of one frame, e.g. (4, h, w).
        seed: the user's.
        purpose: what the noise is for; different purposes give independent noise.
        ticks: each frame's presentation time in stream ticks, or its index in an image folder.
        prior: how frames hang together; progressive noise counts ticks as consecutive frames, and
            is a sum over the frames before, cut off where they no longer count.
    """

    @cache
    def draw(tick: int, name: str = purpose) -> Tensor:
        return torch.randn(tuple(shape), generator=_generator(seed, name, tick))

    r, s = prior.weights

    def joined(tick: int) -> Tensor:
        if prior.kind == "independent":
            return draw(tick)
        if prior.kind == "mixed":
            return r * draw(0, f"{purpose}/shared") + s * draw(tick)
        powers = [s]
        while powers[-1] > REMEMBERED:
            powers.append(powers[-1] * r)
        total = sum(power**2 for power in powers) ** -0.5
        terms = [power * total * draw(tick - back) for back, power in enumerate(powers)]
        return torch.stack(terms).sum(dim=0)

    frames = [joined(tick) for tick in ticks]
    return torch.stack(frames) if frames else torch.zeros(0, *shape)


def _generator(seed: int, purpose: str, tick: int) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}/{purpose}/{tick}".encode(), digest_size=8).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big") >> 1)
