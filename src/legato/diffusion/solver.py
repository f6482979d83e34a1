"""From one timestep to the next: DDIM, and two solvers that look back and need fewer steps.

With lambda = log(alpha / sigma), h the step in it, r the last h over this one and D = (x_0 - last
x_0) / r, the second order of DPM-Solver++ (2M; Lu et al. 2022, arXiv:2211.01095, algorithm 2) adds
alpha' (1 - exp(-h)) D / 2 to DDIM's step. UniPC (Zhao et al. 2023, arXiv:2302.04867, algorithm 1,
with B(h) = exp(h) - 1) adds the same, and corrects each step once the next x_0 is known. Written
so, an x_0 that was edited keeps the network's noise, as with DDIM. Where a timestep comes twice, h
is 0 between: that step is DDIM's, and what follows begins anew.

DDPM (Ho et al. 2020, arXiv:2006.11239, eq. 6 and 7) draws noise at every step instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import expm1, isfinite, log, sqrt
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.prediction import ddim_step
from legato.errors import InputError

SolverName = Literal["ddim", "dpm++", "unipc"]
Scales = tuple[float, float]
"""(alpha, sigma)."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """From where to where a step leads."""

    index: int
    """Of the step, from 0."""
    scales: Scales
    """At this timestep."""
    following: Scales
    """At the next one."""
    is_last: bool
    """Whether there is none after it."""


@runtime_checkable
class StepRule(Protocol):
    """What turns estimates into the latents at the next timestep, for one clip."""

    def __call__(
        self,
        x0: Float[Tensor, "*shape"],
        eps: Float[Tensor, "*shape"],
        z: Float[Tensor, "*shape"],
        move: Move,
    ) -> Float[Tensor, "*shape"]:
        """Return the latents at the next timestep.

        Args:
            x0: clean estimate, perhaps edited.
            eps: the network's noise estimate; not looked at where sigma' is 0.
            z: the latents at this timestep.
            move: scales here and there.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What a solver remembers of a step."""

    x0: Float[Tensor, "*shape"]
    size: float
    """h."""
    last: tuple[Float[Tensor, "*shape"], float] | None
    """D and r; None at the first step."""


class Solver:
    """Steps through one clip; a fresh one for each.

    Args:
        name: `ddim`, or a solver of second order, which takes its first and last step as `ddim`.
    """

    def __init__(self, name: SolverName) -> None:
        self.name = name
        self._before: _Step | None = None

    def __call__(
        self,
        x0: Float[Tensor, "*shape"],
        eps: Float[Tensor, "*shape"],
        z: Float[Tensor, "*shape"],
        move: Move,
    ) -> Float[Tensor, "*shape"]:
        """Return the latents at the next timestep; arguments as in `StepRule`."""
        before, scales, following = self._before, move.scales, move.following
        if self.name == "unipc" and before is not None:
            eps = eps + _correction(before, x0, scales) / scales[1]
        first_order = ddim_step(x0, eps, scales=following)
        size = _log_snr(following) - _log_snr(scales)
        if self.name == "ddim" or move.is_last or not _can_be_seen(size):
            self._before = None
            return first_order
        ratio = before.size / size if before is not None else 0.0
        last = None if before is None else ((x0 - before.x0) / ratio, ratio)
        self._before = _Step(x0=x0, size=size, last=last)
        if last is None:
            return first_order
        return first_order + following[0] * -expm1(-size) / 2 * last[0]


def is_first_order(name: SolverName, scales: Sequence[Scales]) -> bool:
    """Tell whether all steps of a solver are those of DDIM, as they are where there are too few.

    Args:
        name: of the solver.
        scales: at every timestep, and behind the last one.
    """
    if name == "ddim":
        return True
    known = [_can_be_seen(_log_snr(end) - _log_snr(begin)) for begin, end in pairwise(scales)]
    looks_back = any(before and this for before, this in pairwise(known[:-1]))
    # a correction changes the noise that is left, and the last step may leave none
    corrects = any(before and end[1] > 0 for before, end in zip(known, scales[2:], strict=False))
    return not looks_back and not (name == "unipc" and corrects)


def require_second_order(name: SolverName, scales: Sequence[Scales]) -> None:
    """Refuse a solver other than DDIM that would do the same; arguments as in `is_first_order`.

    Raises:
        InputError: there are too few steps for it.
    """
    if name != "ddim" and is_first_order(name, scales):
        raise InputError(
            f"solver={name!r}",
            why="in so few steps it is the same as ddim",
            fix="use more --steps, or ddim",
        )


@dataclass(frozen=True)
class Ddpm:
    """Step rule of DDPM with the smaller of its two variances: sigma_t^2 = beta-tilde_t.

    Mean (alpha' b x_0 + r sigma'^2 z) / sigma^2 with r = alpha / alpha' and b = 1 - r^2; variance
    b sigma'^2 / sigma^2. The last step gives x_0 itself, whatever the schedule ends at.
    """

    noise: Callable[[int], Tensor]
    """Standard normal of the latents' shape, by index of the step."""

    def __call__(
        self,
        x0: Float[Tensor, "*shape"],
        eps: Float[Tensor, "*shape"],
        z: Float[Tensor, "*shape"],
        move: Move,
    ) -> Float[Tensor, "*shape"]:
        """Return the latents at the next timestep; eps is not looked at, an edit stays whole."""
        if move.is_last:
            return x0
        (alpha, sigma), (alpha_next, sigma_next) = move.scales, move.following
        ratio = alpha / alpha_next
        share = 1 - ratio**2
        mean = (alpha_next * share * x0 + ratio * sigma_next**2 * z) / sigma**2
        return mean + sqrt(share) * sigma_next / sigma * self.noise(move.index).to(z)


def _correction(before: _Step, x0: Float[Tensor, "*shape"], scales: Scales) -> Tensor:
    """Return what to add to the latents that the step before arrived at: UniC minus UniP.

    At first order UniC weighs x_0 - last x_0 by 1/2; at second order the weights of D and of that
    difference solve [[1, 1], [-r, 1]] w = b (equation 9 there).
    """
    size, change = before.size, x0 - before.x0
    growth = expm1(-size)
    if before.last is None:
        return -scales[0] * growth / 2 * change
    slope, ratio = before.last
    phi = growth / -size - 1
    first, second = phi / growth, 2 * (phi / -size - 0.5) / growth
    weight = (first - second) / (1 + ratio)
    return -scales[0] * growth * ((weight - 0.5) * slope + (first - weight) * change)


def _can_be_seen(size: float) -> bool:
    """Tell whether a step of this h can look back, and be looked back at."""
    return isfinite(size) and size != 0


def _log_snr(scales: Scales) -> float:
    """Return log(alpha / sigma), infinite where one of them is 0."""
    alpha, sigma = scales
    if sigma == 0:
        return float("inf")
    return log(alpha / sigma) if alpha else float("-inf")
