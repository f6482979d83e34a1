"""The edit that holds colours and contrast of a long video near those of its beginning.

Clip follows clip, each told of the last frames of the one before, and small changes of the whole
picture add up. Latents are moved towards the mean and deviation of the first clip's, channel by
channel (AdaIN; Huang and Belongie 2017, arXiv:1703.06868, eq. 8), while noise is strong.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step, num_first_steps


@dataclass(frozen=True, kw_only=True)
class AnchoredStatistics:
    """Edit of x_0 for `denoise`."""

    mean: Float[Tensor, "C 1 1"]
    """Of each channel over the frames and cells that are the anchor."""
    deviation: Float[Tensor, "C 1 1"]
    """The same."""
    weight: float
    """How much of the way there, 0..1."""
    share: float
    """Of the steps, from the first on and rounded up, in which it acts."""

    @classmethod
    def of(
        cls, latents: Float[Tensor, "T C h w"], *, weight: float, share: float
    ) -> "AnchoredStatistics":
        """Return the edit whose anchor is these frames; weight and share as above."""
        mean, deviation = _statistics(latents)
        return cls(mean=mean, deviation=deviation, weight=weight, share=share)

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0, in the first steps each clip with statistics nearer to the anchor's."""
        if step.index >= num_first_steps(self.share, step.num_steps):
            return x0
        clips = []
        for clip in x0:
            mean, deviation = _statistics(clip)
            anchored = (clip - mean) / deviation * self.deviation.to(x0) + self.mean.to(x0)
            clips.append(torch.lerp(clip, anchored, self.weight))
        return torch.stack(clips)


def _statistics(
    latents: Float[Tensor, "T C h w"],
) -> tuple[Float[Tensor, "C 1 1"], Float[Tensor, "C 1 1"]]:
    """Return mean and deviation of each channel."""
    mean = latents.mean(dim=(0, 2, 3))
    deviation = latents.std(dim=(0, 2, 3), correction=0).clamp_min(1e-6)
    return mean[:, None, None], deviation[:, None, None]
