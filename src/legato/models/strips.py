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

from legato.device import return_freed_memory
from legato.models.norm_statistics import affine_of
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


def over(
    strips: Strips, compute: Callable[[Tensor, Tensor], Tensor], prepare: Prepare = lambda x: x
) -> Strips:
    """Return what is computed of each strip and of a prepared copy with a row of each neighbour.

    The rows beyond the map are zero, as a convolution's padding is. The list is used up, and a
    strip may be changed. Nothing of a strip is held while the next one is prepared.
    """
    above, out = None, []
    while strips:
        return_freed_memory()  # rows of neighbours and other small things leave many holes
        strip = strips.pop(0)
        beside = above, strips[0][:, :, :1] if strips else None
        above = strip[:, :, -1:].clone()
        out.append(compute(strip, _whole(strip, beside, prepare)))
        del strip
    return out


def _whole(
    strip: Float[Tensor, "N C rows W"],
    beside: tuple[Tensor | None, Tensor | None],
    prepare: Prepare,
) -> Float[Tensor, "N C padded W"]:
    above, below = beside
    edge = torch.zeros_like(strip[:, :, :1])
    rows = [edge if above is None else above, strip, edge if below is None else below]
    whole = prepare(torch.cat(rows, dim=2))
    if above is None:
        whole[:, :, 0] = 0
    if below is None:
        whole[:, :, -1] = 0
    return whole


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
    scale, shift = affine_of(norm, strips, num_frames)

    def prepare(x: Tensor) -> Tensor:
        y = x.float().mul_(scale).add_(shift)  # in place in float32, else on a copy
        return silu_(y).to(x.dtype)

    return prepare
