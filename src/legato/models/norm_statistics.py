"""What a group norm does to a map, from statistics that are gathered piece by piece."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


def affine_of(
    norm: nn.GroupNorm, strips: Sequence[Float[Tensor, "N C _ W"]], num_frames: int
) -> tuple[Float[Tensor, "N C 1 1"], Float[Tensor, "N C 1 1"]]:
    """Return the factor and the summand that a norm is, given its statistics, in float32.

    Sums of squares are taken around each strip's own mean and joined in float64 (Chan et al. 1983,
    The American Statistician 37(3), eq. 2.1).

    Args:
        norm: of `num_groups` groups of channels.
        strips: rows of the maps, each strip on its own.
        num_frames: consecutive maps that share their statistics.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for strip in strips:
        values = strip.permute(0, 2, 3, 1).flatten(1, 2).float()
        own = values.mean(dim=1, keepdim=True)
        own_squares = (values - own).square_().sum(dim=1).double()
        more, difference = values.shape[1], own[:, 0].double() - mean.to(own.device)
        mean = mean.to(own.device) + difference * (more / (count + more))
        between = difference.square() * (count * more / (count + more))
        squares = squares.to(own.device) + own_squares + between
        count += more
    scale, shift = affine_of_maps(norm, mean, squares / count, num_frames)
    return scale[..., None, None], shift[..., None, None]


def affine_of_maps(
    norm: nn.GroupNorm,
    means: Float[Tensor, "N C"],
    variances: Float[Tensor, "N C"],
    num_frames: int,
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    """Return the same, in float32, of the statistics that each map's channels have, in float64."""
    groups = (-1, num_frames, norm.num_groups, norm.num_channels // norm.num_groups)
    own = means.view(groups)
    centre = own.mean(dim=(1, 3), keepdim=True)
    spread = variances.view(groups) + (own - centre).square()
    rate = (spread.mean(dim=(1, 3), keepdim=True) + norm.eps).rsqrt()
    scale = rate.expand_as(own).reshape(means.shape) * norm.weight
    shift = norm.bias - centre.expand_as(own).reshape(means.shape) * scale
    return scale.float(), shift.float()
