"""Where two frames lead if all goes on as it does: the frames that steady motion would show."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.flow.estimate import FlowEstimator
from legato.flow.warp import warp

LEAST_SIDE = 192
"""Pixels each way that flow is estimated on at least: small frames are enlarged."""


def steady_frames(
    pair: Float[Tensor, "2 3 H W"], count: int, estimator: FlowEstimator
) -> Float[Tensor, "K 3 H W"]:
    """Return the frames after a pair, each moved at every place as the second one was.

    A camera that drives on sees the same flow at a place of the picture however long it does: so it
    is the place whose movement stays, not the thing's, and what comes nearer grows ever faster.
    Displacements are composed, x_k(p) = x_1(p + d_k(p)) with d_{k+1}(p) = b(p) + d_k(p + b(p)) for
    the backward flow b of the pair, so that nothing is read twice. What comes into view is the
    border of what was seen.

    Args:
        pair: two frames in a row, [-1, 1].
        count: frames to make.
        estimator: of the flow.
    """
    rows, columns = pair.shape[-2:]
    factor = max(1, -(-LEAST_SIDE // min(rows, columns)))
    large = pair
    if factor > 1:
        large = F.interpolate(pair, scale_factor=factor, mode="bicubic").clamp(-1, 1)
    _, backward = estimator(large)
    backward = backward.to(large.device)
    displacement = torch.zeros_like(backward)
    frames = []
    for _ in range(count):
        displacement = backward + warp(displacement, backward, padding="border")
        moved = warp(large[1:], displacement, padding="border")
        frames.append(F.avg_pool2d(moved, factor))
    if not frames:
        return pair[:0]
    return rearrange(frames, "k 1 c h w -> k c h w")
