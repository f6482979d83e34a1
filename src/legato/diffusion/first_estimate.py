"""The first clean estimate keeps a share in the last one (docs/decisions/0068)."""

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step


class FirstEstimate:
    """Edit for `denoise`: mixes the first x_0 into the last.

    From a blind start the first is told by the conditions alone, while later ones see noise too.
    What both get wrong differs in part, and less of that is left in their mean than in either.
    """

    def __init__(self, share: float) -> None:
        """Take the first estimate's share in the result, 0..1."""
        self.share = share
        self._first: Tensor | None = None

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0, at the last step with its share of the first step's."""
        if self._first is None:
            self._first = x0
        if step.index + 1 < step.num_steps:
            return x0
        return torch.lerp(x0, self._first, self.share)
