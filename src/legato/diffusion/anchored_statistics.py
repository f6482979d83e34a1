"""The edit that holds colours and contrast of a long video near those of its beginning.

Clip follows clip, each told of the last frames of the one before, and small changes of the whole
picture add up. Latents are moved towards the mean and covariance of the first clip's channels, by
the linear map that moves them least (Monge-Kantorovich; Pitie and Kokaram, "The linear
Monge-Kantorovitch linear colour mapping for example-based colour transfer", CVMP 2007).
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step

SMALLEST = 1e-9
"""Variance below which a channel, or a mixture of channels, counts as flat."""


@dataclass(frozen=True, kw_only=True)
class AnchoredStatistics:
    """Edit of x_0 for `denoise`."""

    mean: Float[Tensor, "C 1 1"]
    """Of each channel over the frames and cells that are the anchor; on the CPU, in doubles."""
    covariance: Float[Tensor, "C C"]
    """Of the channels, the same."""
    weight: float
    """How much of the way there, 0..1."""

    @classmethod
    def of(cls, latents: Float[Tensor, "T C h w"], *, weight: float) -> "AnchoredStatistics":
        """Return the edit whose anchor is these frames; weight as above."""
        mean, covariance = _statistics(latents.cpu().double())
        return cls(mean=mean, covariance=covariance, weight=weight)

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0, each clip with statistics nearer to the anchor's."""
        clips = x0.cpu().double()
        anchored = torch.stack([self._anchored(clip) for clip in clips])
        return torch.lerp(clips, anchored, self.weight).to(x0)

    def _anchored(self, clip: Float[Tensor, "T C h w"]) -> Float[Tensor, "T C h w"]:
        mean, covariance = _statistics(clip)
        root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
        moved = inverse @ _power(root @ self.covariance @ root, 0.5) @ inverse
        return einsum(moved, clip - mean, "d c, t c h w -> t d h w") + self.mean


def _statistics(
    latents: Float[Tensor, "T C h w"],
) -> tuple[Float[Tensor, "C 1 1"], Float[Tensor, "C C"]]:
    """Return mean and covariance of the channels."""
    channels = rearrange(latents, "t c h w -> c (t h w)")
    mean = channels.mean(dim=1)
    return mean[:, None, None], torch.cov(channels, correction=0).reshape(len(mean), len(mean))


def _power(matrix: Float[Tensor, "C C"], exponent: float) -> Float[Tensor, "C C"]:
    """Return a power of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    powered: Tensor = vectors @ torch.diag(values.clamp_min(SMALLEST) ** exponent) @ vectors.mT
    return powered
