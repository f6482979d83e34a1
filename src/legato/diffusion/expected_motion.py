"""The edit that leads estimates to frames that motion lets expect, while noise is strong.

As SDEdit (Meng et al. 2022, arXiv:2108.01073) lets coarse pictures decide the layout and the
network everything finer; here the estimate is led instead of the start, so that all frames keep the
noise of their number.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step, num_first_steps


@dataclass(frozen=True, kw_only=True)
class ExpectedMotion:
    """Edit of x_0 for `denoise`."""

    expected: Float[Tensor, "B T C h w"]
    """Clean latents of the frames that are expected."""
    weight: Float[Tensor, "B T 1 h w"]
    """Share of them in the estimate, 0..1; 0 where nothing is expected."""
    share: float
    """Of the steps, from the first on and rounded up, in which it acts."""

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0, led to what is expected in the first steps."""
        if step.index >= num_first_steps(self.share, step.num_steps):
            return x0
        return torch.lerp(x0, self.expected.to(x0), self.weight.to(x0).expand_as(x0))
