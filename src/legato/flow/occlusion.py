"""Where a flow can be trusted: forward and backward flow must undo each other."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from legato.flow.warp import warp

RELATIVE, ABSOLUTE = 0.001, 0.05
_LENGTH_RELATIVE, _LENGTH_ABSOLUTE_PX = 0.01, 0.5
_BOUNDARY_RELATIVE, _BOUNDARY_ABSOLUTE_PX2 = 0.01, 0.002
_PHOTOMETRIC = 0.25  # of the range of values


def consistency(
    flow: Float[Tensor, "N 2 H W"],
    flow_back: Float[Tensor, "N 2 H W"],
    *,
    alpha1: float = RELATIVE,
    alpha2: float = ABSOLUTE,
) -> Float[Tensor, "N 1 H W"]:
    """Return 1 where following `flow` and then `flow_back` leads home, else 0 (occluded, wrong).

    M = [ |f + b'|^2 < alpha1 (|f|^2 + |b'|^2) + alpha2 ], b'(p) = b(p + f(p)) read bilinearly, zero
    outside the frame (Meister et al. 2018, arXiv:1711.07837, eq. 1, with other thresholds).

    Args:
        flow: from the frame it lives on to the other, pixels.
        flow_back: from the other frame back.
        alpha1: tolerance relative to the squared lengths.
        alpha2: absolute tolerance, square pixels.
    """
    forth = flow.float()
    back = warp(flow_back, forth)
    squared_error = (forth + back).square().sum(dim=1, keepdim=True)
    squared_lengths = forth.square().sum(dim=1, keepdim=True) + back.square().sum(
        dim=1, keepdim=True
    )
    return (squared_error < alpha1 * squared_lengths + alpha2).float()


def occluded(
    flow: Float[Tensor, "N 2 H W"], flow_back: Float[Tensor, "N 2 H W"]
) -> Bool[Tensor, "N H W"]:
    """Return where following `flow` and then `flow_back` does not lead home, by lengths.

    |f + b(p + f)| > 0.01 (|f| + |b|) + 0.5 pixels, |b| read at the pixel itself: the test of GMFlow
    (Xu et al. 2022, arXiv:2111.13680) and FRESCO. Looser than `consistency`, which is for fusing.
    """
    forth, back = flow.float(), flow_back.float()
    error: Tensor = (forth + warp(back, forth)).norm(dim=1)
    lengths: Tensor = forth.norm(dim=1) + back.norm(dim=1)
    return error > _LENGTH_RELATIVE * lengths + _LENGTH_ABSOLUTE_PX


def motion_boundary(flow: Float[Tensor, "N 2 H W"]) -> Bool[Tensor, "N H W"]:
    """Return where two motions meet, so that a flow is a mixture of both.

    |grad u|^2 + |grad v|^2 > 0.01 (u^2 + v^2) + 0.002 (Ruder et al. 2016, arXiv:1604.08610, section
    3.2). Gradients are differences to the next pixel, 0 in the last column and row, as Lai et al.
    2018 (arXiv:1808.00449) take them: a step marks the pixel before it.

    Args:
        flow: (u, v) in pixels, on the grid of the result.
    """
    w = flow.float()
    steep = torch.zeros_like(w[:, 0])
    steep[:, :, :-1] += w.diff(dim=3).square().sum(dim=1)
    steep[:, :-1] += w.diff(dim=2).square().sum(dim=1)
    return steep > _BOUNDARY_RELATIVE * w.square().sum(dim=1) + _BOUNDARY_ABSOLUTE_PX2


def changed(
    frame: Float[Tensor, "N 3 H W"],
    neighbour: Float[Tensor, "N 3 H W"],
    flow: Float[Tensor, "N 2 H W"],
) -> Bool[Tensor, "N H W"]:
    """Return where the neighbour, warped by the flow, shows another colour.

    Mean over RGB of the absolute difference above a quarter of the range (FRESCO's released code).

    Args:
        frame: RGB in [-1, 1]; the flow lives on its grid.
        neighbour: the frame that the flow points to.
        flow: pixels.
    """
    ours, theirs = (frame.float() + 1) / 2, (neighbour.float() + 1) / 2  # black outside, not grey
    return (ours - warp(theirs, flow)).abs().mean(dim=1) > _PHOTOMETRIC
