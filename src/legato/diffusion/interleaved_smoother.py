"""The edit that replaces every second frame of the clean estimate by what lies between the others.

ControlVideo (Zhang et al. 2023, arXiv:2305.13077, section 3.3): at two neighbouring steps the odd
and then the even frames of the decoded estimate are interpolated from their neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step
from legato.flow.estimate import FlowEstimator
from legato.flow.warp import warp

Between = Callable[[Tensor, Tensor], Tensor]
"""Two frames `3 H W` to the one in the middle."""


@dataclass(frozen=True, kw_only=True)
class InterleavedSmoother:
    """Edit of x_0 for `denoise`."""

    decode: Callable[[Float[Tensor, "B T C h w"]], Float[Tensor, "B T 3 H W"]]
    encode: Callable[[Float[Tensor, "B T 3 H W"]], Float[Tensor, "B T C h w"]]
    between: Between
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
            torch.stack([self.between(clip[t - 1], clip[t + 1]) for t in inner]) for clip in frames
        ]
        smooth = x0.clone()
        smooth[:, list(inner)] = self.encode(torch.stack(middle)).to(x0)
        return smooth


@dataclass(frozen=True)
class FlowBetween:
    """The frame between two others, fetched from both along half of the flow.

    Flow at the middle is approximated by (f_10 - f_01) / 4 to the first frame and its negative to
    the second (Jiang et al. 2018, arXiv:1712.00080, eq. 4 at t = 1/2).
    """

    estimator: FlowEstimator

    def __call__(self, first: Float[Tensor, "3 H W"], second: Float[Tensor, "3 H W"]) -> Tensor:
        """Return the frame in the middle."""
        pair = torch.stack((first, second)).float()
        forward, backward = self.estimator(pair)
        half = (backward - forward).to(pair.device) / 4
        return warp(pair, torch.cat((half, -half)), padding="border").mean(dim=0)
