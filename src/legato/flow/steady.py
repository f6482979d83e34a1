"""Where two frames lead if the camera goes on as it does: the frames that steady motion would show.

One zoom and shift for the whole picture, no more: flow that may differ from place to place tears
things apart when it is continued, above all in frames that a network drew.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.flow.dis import LUMA
from legato.flow.estimate import FlowEstimator
from legato.flow.warp import warp

LEAST_SIDE = 192
"""Pixels each way that flow is estimated on at least: small frames are enlarged."""
OUTLIER_PX = 2.0
"""Distance from the common motion at which a place counts half: what moves by itself."""
ROUNDS = 10


def steady_frames(
    pair: Float[Tensor, "2 3 H W"], count: int, estimator: FlowEstimator
) -> tuple[Float[Tensor, "K 3 H W"], Float[Tensor, "K 1 H W"]]:
    """Return the frames after a pair, and the share of each of their pixels that has been seen.

    A camera that drives on sees the same flow at a place of the picture however long it does: what
    comes nearer grows by the same factor every time. Displacements are composed, x_k(p) =
    x_1(p + d_k(p)) with d_{k+1}(p) = b(p) + d_k(p + b(p)) for the common backward flow b, so that
    no frame is read twice.

    Args:
        pair: two frames in a row, [-1, 1].
        count: frames to make.
        estimator: of the flow.
    """
    large, factor = enlarged(pair)
    _, backward = estimator(large)
    common = common_motion(backward.to(large.device), large[1:])
    displacements = [common][:count]
    while len(displacements) < count:
        displacements.append(common + warp(displacements[-1], common, padding="border"))
    return moved_frames(large[1:], displacements, torch.ones_like(large[1:, :1]), factor)


def moved_frames(
    large: Float[Tensor, "1 3 h w"],
    displacements: list[Float[Tensor, "1 2 h w"]],
    foreseen: Float[Tensor, "1 1 h w"],
    factor: int,
) -> tuple[Float[Tensor, "K 3 H W"], Float[Tensor, "K 1 H W"]]:
    """Return an enlarged frame, moved and reduced again, and the share of pixels that it shows.

    Args:
        large: as `enlarged` gives it.
        displacements: backward flow to each of the new frames.
        foreseen: places of these that count, 0 or 1; from outside the picture nothing does.
        factor: how many times the frame is enlarged.
    """
    made = [large.new_zeros(0, 4, *(side // factor for side in large.shape[-2:]))]
    for displacement in displacements:
        moved = warp(large, displacement, padding="border")
        seen = warp(torch.ones_like(foreseen), displacement) * foreseen
        made.append(F.avg_pool2d(torch.cat((moved, seen), dim=1), factor))
    frames = torch.cat(made)
    return frames[:, :3], frames[:, 3:]


def enlarged(frames: Float[Tensor, "N 3 H W"]) -> tuple[Float[Tensor, "N 3 h w"], int]:
    """Return frames of at least `LEAST_SIDE`, and how many times as large they are."""
    factor = max(1, -(-LEAST_SIDE // min(frames.shape[-2:])))
    if factor == 1:
        return frames, factor
    return F.interpolate(frames, scale_factor=factor, mode="bicubic").clamp(-1, 1), factor


def common_motion(
    flow: Float[Tensor, "1 2 H W"], frame: Float[Tensor, "1 3 H W"]
) -> Float[Tensor, "1 2 H W"]:
    """Return the zoom and shift that most of a flow agrees with, as a flow.

    Least squares over pixels, weighted by the contrast around them and, in rounds, by how well they
    fit (Cauchy weights), so that neither flat sky nor other cars decide.

    Args:
        flow: pixels, x then y.
        frame: that it lives on.
    """
    rows, columns = flow.shape[-2:]
    axes = (torch.arange(n, dtype=torch.float64, device=flow.device) for n in (columns, rows))
    place = rearrange(torch.stack(torch.meshgrid(*axes, indexing="xy")), "c h w -> c (h w)")
    moved = rearrange(flow.double(), "1 c h w -> c (h w)")
    contrast = _contrast(frame).double().flatten() + 1e-9
    weight = contrast
    for _ in range(ROUNDS):
        share = weight / weight.sum()
        centre, shift = ((x * share).sum(dim=1, keepdim=True) for x in (place, moved))
        away = place - centre
        zoom = (share * away * (moved - shift)).sum() / (share * away.square()).sum()
        found = shift + zoom * away
        weight = contrast / (1 + ((moved - found).norm(dim=0) / OUTLIER_PX).square())
    return rearrange(found.float(), "c (h w) -> 1 c h w", h=rows)


def _contrast(frame: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "H W"]:
    """Return the mean gradient of luma around every pixel."""
    luma = (frame * torch.tensor(LUMA, device=frame.device).view(3, 1, 1)).sum(dim=1, keepdim=True)
    down, right = luma.diff(dim=2).abs(), luma.diff(dim=3).abs()
    slope = F.pad(down, (0, 0, 1, 0)) + F.pad(right, (1, 0, 0, 0))
    return F.avg_pool2d(slope, 9, stride=1, padding=4)[0, 0]
