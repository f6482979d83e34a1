"""Backward warping: fetch each pixel from where the flow points."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def warp(
    x: Float[Tensor, "N C H W"],
    flow: Float[Tensor, "N 2 H W"],
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    padding: Literal["zeros", "border", "reflection"] = "zeros",
) -> Float[Tensor, "N C H W"]:
    """Return y with y(p) = x(p + flow(p)), computed in float32.

    Args:
        x: what to fetch from, any range.
        flow: pixels, x then y; lives on the grid of the result.
        mode: how x is read between its pixels.
        padding: what lies outside x: zeros, its border repeated, or x mirrored.
    """
    rows, cols = x.shape[-2:]
    here = torch.meshgrid(
        torch.arange(cols, dtype=torch.float32, device=x.device),
        torch.arange(rows, dtype=torch.float32, device=x.device),
        indexing="xy",
    )
    reach = torch.tensor([max(cols - 1, 1), max(rows - 1, 1)], device=x.device)[:, None, None]
    there = (torch.stack(here) + flow.float()).mul_(2).div_(reach).sub_(1)
    return F.grid_sample(
        x.float(),
        there.permute(0, 2, 3, 1),  # a view: two planes are as good as pairs
        mode=mode,
        padding_mode=padding,
        align_corners=True,
    )
