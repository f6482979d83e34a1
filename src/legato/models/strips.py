"""Feature maps as strips of rows that are worked on from the top down and let go behind.

A layer that reads a strip needs a row of each neighbour (a 3x3 convolution) or the statistics of
the whole map (a norm). The statistics are taken first, so that nothing is approximated and only the
maps that a layer carries over, never its intermediate ones, are whole in memory.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from legato.models.temporal_conv import silu_

Strips = list[Tensor]
"""Rows of a map `N C H W` from the top down, each strip a tensor of its own."""

Prepare = Callable[[Tensor], Tensor]
"""Changes a strip that nobody else holds, row by row."""


def cut(x: Float[Tensor, "N C H W"], rows: int) -> Strips:
    """Return copies of so many rows each, channels-last."""
    pieces = torch.split(x, rows, dim=2)
    return [piece.clone(memory_format=torch.channels_last) for piece in pieces]


def taken(strips: Strips) -> Iterator[Float[Tensor, "N C rows W"]]:
    """Yield the strips from the top down; the list is used up."""
    while strips:
        yield strips.pop(0)


def with_neighbours(
    strips: Strips, prepare: Prepare = lambda x: x
) -> Iterator[tuple[Float[Tensor, "N C rows W"], Float[Tensor, "N C padded W"]]]:
    """Yield each strip, and a prepared copy of it with a row of each neighbour.

    The rows beyond the map are zero, as a convolution's padding is. The list is used up, and a
    strip that was yielded may be changed.
    """
    above = None
    while strips:
        strip = strips.pop(0)
        below = strips[0][:, :, :1] if strips else None
        edge = torch.zeros_like(strip[:, :, :1])
        rows = [edge if above is None else above, strip, edge if below is None else below]
        whole = prepare(torch.cat(rows, dim=2))
        if above is None:
            whole[:, :, 0] = 0
        if below is None:
            whole[:, :, -1] = 0
        above = strip[:, :, -1:].clone()
        yield strip, whole


def convolve(conv: nn.Conv2d, whole: Float[Tensor, "N C padded W"]) -> Float[Tensor, "N D rows W"]:
    """Return a 3x3 convolution of a strip that carries a row of each neighbour."""
    return F.conv2d(whole, conv.weight, conv.bias, padding=(0, 1))


def normalise(norm: nn.GroupNorm, strips: Strips, *, num_frames: int = 1) -> Prepare:
    """Return SiLU(GN(.)) for single strips, with the statistics of the whole map.

    Args:
        norm: of `num_groups` groups of channels.
        strips: of the map; left as they are.
        num_frames: consecutive maps that share their statistics.
    """
    scale, shift = _affine(norm, strips, num_frames)

    def prepare(x: Tensor) -> Tensor:
        y = x.float().mul_(scale).add_(shift)  # in place in float32, else on a copy
        return silu_(y).to(x.dtype)

    return prepare


def _affine(norm: nn.GroupNorm, strips: Strips, num_frames: int) -> tuple[Tensor, Tensor]:
    """Return the factor and the summand `N C 1 1` that a norm is, given its statistics.

    Sums of squares are taken around each strip's own mean and joined in float64 (Chan et al. 1983,
    The American Statistician 37(3), eq. 2.1).
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
    groups = (-1, num_frames, norm.num_groups, norm.num_channels // norm.num_groups)
    means, deviations = mean.view(groups), squares.view(groups)
    centre = means.mean(dim=(1, 3), keepdim=True)
    spread = deviations / count + (means - centre).square()
    rate = (spread.mean(dim=(1, 3), keepdim=True) + norm.eps).rsqrt()
    weight, bias = norm.weight.double(), norm.bias.double()
    scale = rate.expand(means.shape).reshape(mean.shape) * weight
    shift = bias - centre.expand(means.shape).reshape(mean.shape) * scale
    return scale.float()[..., None, None], shift.float()[..., None, None]
