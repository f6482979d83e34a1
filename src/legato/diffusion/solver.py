"""From one timestep to the next: DDIM, and two solvers that look back and need fewer steps.

With lambda = log(alpha / sigma), h the step in it, r the last h over this one and D = (x_0 - last
x_0) / r, the second order of DPM-Solver++ (2M; Lu et al. 2022, arXiv:2211.01095, algorithm 2) adds
alpha' (1 - exp(-h)) D / 2 to DDIM's step. UniPC (Zhao et al. 2023, arXiv:2302.04867, algorithm 1,
with B(h) = exp(h) - 1) adds the same, and corrects each step once the next x_0 is known. Written
so, an x_0 that was edited keeps the network's noise, as with DDIM.
"""

from dataclasses import dataclass
from math import expm1, isfinite, log
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.prediction import ddim_step

SolverName = Literal["ddim", "dpm++", "unipc"]
Scales = tuple[float, float]
"""(alpha, sigma)."""


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
        *,
        scales: Scales,
        following: Scales,
        is_last: bool,
    ) -> Float[Tensor, "*shape"]:
        """Return the latents at the next timestep.

        Args:
            x0: clean estimate, perhaps edited.
            eps: the network's noise estimate; not looked at where sigma' is 0.
            scales: (alpha, sigma) at this timestep.
            following: (alpha', sigma') at the next one.
            is_last: whether there is none after it.
        """
        before = self._before
        if self.name == "unipc" and before is not None:
            eps = eps + _correction(before, x0, scales) / scales[1]
        z = ddim_step(x0, eps, scales=following)
        size = _log_snr(following) - _log_snr(scales)
        if self.name == "ddim" or is_last or not isfinite(size):
            self._before = None
            return z
        ratio = before.size / size if before is not None else 0.0
        last = None if before is None else ((x0 - before.x0) / ratio, ratio)
        self._before = _Step(x0=x0, size=size, last=last)
        return z if last is None else z + following[0] * -expm1(-size) / 2 * last[0]


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


def _log_snr(scales: Scales) -> float:
    """Return log(alpha / sigma), infinite where one of them is 0."""
    alpha, sigma = scales
    if sigma == 0:
        return float("inf")
    return log(alpha / sigma) if alpha else float("-inf")
