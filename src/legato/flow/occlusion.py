"""Where a flow can be trusted: forward and backward flow must undo each other."""

from jaxtyping import Float
from torch import Tensor

from legato.flow.warp import warp

RELATIVE, ABSOLUTE = 0.001, 0.05


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
