"""The edit that carries the background of the clean estimate along the flow, in pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step
from legato.diffusion.feature_optimisation import Smooth
from legato.diffusion.step_plan import StepPlan


@dataclass(frozen=True, kw_only=True)
class BackgroundSmoother:
    """Edit of x_0 for `denoise`: FRESCO's background smoothing at the steps that the plan names.

    Of the released code (after Khachatryan et al. 2023, arXiv:2303.13439): x_0 is decoded, smoothed
    and encoded again. Frame 0, which nothing is carried to, stays bit for bit.
    """

    decode: Callable[[Float[Tensor, "B T C h w"]], Float[Tensor, "B T 3 H W"]]
    encode: Callable[[Float[Tensor, "B T 3 H W"]], Float[Tensor, "B T C h w"]]
    smooth: Smooth
    """For frames, e.g. of `ClipCorrespondence.background`."""
    plan: StepPlan
    num_steps: int
    """Of the whole schedule."""

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0, smoothed where the plan says so."""
        parts = self.plan.at(step.index, num_executed=step.num_steps, num_steps=self.num_steps)
        if not parts.smoothing or x0.shape[1] < 2:
            return x0
        smooth = self.encode(self.smooth(self.decode(x0)))
        return torch.cat((x0[:, :1], smooth[:, 1:].to(x0)), dim=1)
