"""The edit that replaces every second frame of the clean estimate by what lies between the others.

ControlVideo (Zhang et al. 2023, arXiv:2305.13077, section 3.3): at two neighbouring steps the odd
and then the even frames of the decoded estimate are interpolated from their neighbours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step
from legato.flow.estimate import FlowEstimator
from legato.flow.warp import warp

Between = Callable[[Tensor, Tensor, float], Tensor]
"""Two frames `3 H W` to the one between them, at a share of the time from one to the other."""


@dataclass(frozen=True, kw_only=True)
class InterleavedSmoother:
    """Edit of x_0 for `denoise`."""

    decode: Callable[[Float[Tensor, "B T C h w"]], Float[Tensor, "B T 3 H W"]]
    encode: Callable[[Float[Tensor, "B T 3 H W"]], Float[Tensor, "B T C h w"]]
    between: Between
    times: Sequence[int]
    """Of the frames, rising, in any unit."""
    first_step: int
    """Odd frames are replaced at this step, even ones at the next; the first and the last frame
    stay. The authors: when 20 and 19 steps remain of 50."""

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0, smoothed at the two steps; frames that are not replaced stay bit for bit."""
        parity = step.index - self.first_step
        inner = range(2 if parity else 1, x0.shape[1] - 1, 2)
        if parity not in (0, 1) or not inner:
            return x0
        frames = self.decode(x0)
        middle = [
            torch.stack([self.between(clip[t - 1], clip[t + 1], self._share(t)) for t in inner])
            for clip in frames
        ]
        smooth = x0.clone()
        smooth[:, list(inner)] = self.encode(torch.stack(middle)).to(x0)
        return smooth

    def _share(self, t: int) -> float:
        before, time, after = self.times[t - 1 : t + 2]
        return (time - before) / (after - before)


@dataclass(frozen=True)
class FlowBetween:
    """The frame between two others, fetched from both along a part of the flow.

    Flow at time t is approximated by -(1-t) t f_01 + t^2 f_10 to the first frame and by
    (1-t)^2 f_01 - t (1-t) f_10 to the second, and both are weighed by their nearness (Jiang et al.
    2018, arXiv:1712.00080, eq. 4).
    """

    estimator: FlowEstimator

    def __call__(
        self, first: Float[Tensor, "3 H W"], second: Float[Tensor, "3 H W"], t: float
    ) -> Tensor:
        """Return the frame at time t, 0 the first one's and 1 the second one's."""
        pair = torch.stack((first, second)).float()
        forward, backward = self.estimator(pair)
        there, back = forward.to(pair.device), backward.to(pair.device)
        flow = t**2 * back - (1 - t) * t * there, (1 - t) ** 2 * there - t * (1 - t) * back
        seen = warp(pair, torch.cat(flow), padding="border")
        return (1 - t) * seen[0] + t * seen[1]
