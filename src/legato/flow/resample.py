"""Bring flows, masks and pictures to the size of features.

A smaller grid is sampled at the centres of its cells, without averaging over them: a token's flow
is that of the pixels in its middle, never a mean across the edge of an object.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
"""Rows, columns."""


def resample(x: Float[Tensor, "N C H W"], size: Size) -> Float[Tensor, "N C h w"]:
    """Return x at another size, bilinearly between the two or four pixels around a cell's centre.

    Args:
        x: any range; a whole-numbered reduction is the mean of the middle 2x2 pixels of its cells.
        size: rows and columns to give it.
    """
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def resample_flow(flow: Float[Tensor, "N 2 H W"], size: Size) -> Float[Tensor, "N 2 h w"]:
    """Return a flow at another size, in pixels of that size."""
    rows, cols = flow.shape[-2:]
    factors = torch.tensor([size[1] / cols, size[0] / rows], device=flow.device)
    return resample(flow.float(), size) * factors[:, None, None]


def resample_mask(mask: Bool[Tensor, "N H W"], size: Size) -> Bool[Tensor, "N h w"]:
    """Return what is true of more than half of the middle of a cell: for attention and links."""
    return resample(mask[:, None].float(), size)[:, 0] > 0.5


def cover_mask(mask: Bool[Tensor, "N H W"], size: Size) -> Bool[Tensor, "N h w"]:
    """Return what is true of any pixel of a cell: for losses, which must never see such a pixel."""
    return F.adaptive_max_pool2d(mask[:, None].float(), size)[:, 0] > 0
