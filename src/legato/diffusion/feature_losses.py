"""How far decoder features are from moving with the frames, and from the input's own structure.

Yang et al. 2024, arXiv:2403.12962, section 4.3. Neither loss holds an N x N matrix for all frames:
the similarities of N positions of one frame are computed a few rows at a time, or not at all.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from legato.flow.warp import warp

SIMILARITIES_AT_A_TIME = 1 << 21
"""Entries of a Gram matrix in memory together."""


@dataclass(frozen=True)
class ClipFlow:
    """Flow and occlusion between the frames of a clip, cyclic: the last pair leads back to frame 0.

    `flow_forward[i]` lives on frame i and points to frame i+1, `flow_backward[i]` on frame i+1 and
    points to frame i; occlusions, 1 where occluded, live on the same grids.
    """

    flow_forward: Float[Tensor, "T 2 H W"]
    flow_backward: Float[Tensor, "T 2 H W"]
    occlusion_forward: Float[Tensor, "T H W"]
    occlusion_backward: Float[Tensor, "T H W"]

    def at(self, rows: int, cols: int, device: torch.device) -> "ClipFlow":
        """Return it at another size; one occluded pixel occludes its whole cell."""
        return ClipFlow(
            _resized_flow(self.flow_forward.to(device), rows, cols),
            _resized_flow(self.flow_backward.to(device), rows, cols),
            _pooled(self.occlusion_forward.to(device), rows, cols),
            _pooled(self.occlusion_backward.to(device), rows, cols),
        )


def temporal_both_ways(f: Float[Tensor, "T C h w"], flow: ClipFlow) -> Float[Tensor, ""]:
    """Return the mean over all elements of what warping leaves, forth and back, cyclic.

    The released code's loss: |f[i+1] - warp(f[i], b)| + |f[i] - warp(f[i+1], g)| where visible.

    Args:
        f: features of consecutive frames.
        flow: at the features' size.
    """
    following = f.roll(-1, dims=0)
    back = _visible(following - _warped(f, flow.flow_backward), flow.occlusion_backward)
    forth = _visible(f - _warped(following, flow.flow_forward), flow.occlusion_forward)
    return (back.abs() + forth.abs()).mean()


def temporal_onward(f: Float[Tensor, "T C h w"], flow: ClipFlow) -> Float[Tensor, ""]:
    """Return the sum over pairs of |f[i+1] - warp(f[i], b)| where visible; the paper's loss.

    Args:
        f: features of consecutive frames.
        flow: at the features' size; the pair that leads back to frame 0 is left out.
    """
    warped = _warped(f[:-1], flow.flow_backward[:-1])
    return _visible(f[1:] - warped, flow.occlusion_backward[:-1]).abs().sum()


def unit(f: Float[Tensor, "T C h w"]) -> Float[Tensor, "T N C"]:
    """Return the feature of every position with unit length over channels."""
    return F.normalize(f.flatten(2).mT, dim=-1)


def gram_l1(features: Float[Tensor, "T N C"], target: Float[Tensor, "T N C"]) -> Float[Tensor, ""]:
    """Return the mean of |F F^T - G G^T|; the released code's loss.

    The gradient, 2 sign(F F^T - G G^T) F over the number of entries, is computed along with it.

    Args:
        features: F, of unit length per position.
        target: G, the reference's.
    """
    loss: Tensor = _GramL1.apply(features, target)  # type: ignore[no-untyped-call]
    return loss


def gram_squared(
    features: Float[Tensor, "T N C"], target: Float[Tensor, "T N C"]
) -> Float[Tensor, ""]:
    """Return the sum over frames of |F F^T - G G^T|^2; the paper's loss.

    Equal to |F^T F|^2 + |G^T G|^2 - 2 |F^T G|^2 (Frobenius norms), which has C x C matrices only;
    where there are fewer positions than channels, the difference itself is smaller.
    """
    if features.shape[1] <= features.shape[2]:
        return (features @ features.mT - target @ target.mT).square().sum()
    own, cross, theirs = features.mT @ features, features.mT @ target, target.mT @ target
    return own.square().sum() + theirs.square().sum() - 2 * cross.square().sum()


class _GramL1(torch.autograd.Function):
    """Mean |F F^T - G G^T| and its gradient, a few rows of one frame at a time."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, target: Tensor) -> Tensor:
        frames, count = features.shape[:2]
        gradient, total = torch.empty_like(features), features.new_zeros(())
        rows = max(SIMILARITIES_AT_A_TIME // count, 1)
        for frame, wanted, out in zip(features, target, gradient, strict=True):
            for start in range(0, count, rows):
                piece = slice(start, start + rows)
                difference = frame[piece] @ frame.T
                difference -= wanted[piece] @ wanted.T
                total += difference.abs().sum()
                out[piece] = difference.sign_() @ frame
        entries = frames * count**2
        ctx.save_for_backward(gradient.mul_(2 / entries))
        return total / entries

    @staticmethod
    def backward(ctx: FunctionCtx, *outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * outer[0], None


def _warped(f: Float[Tensor, "K C h w"], flow: Float[Tensor, "K 2 h w"]) -> Tensor:
    """Return f fetched along the flow; what stands still is taken as it is.

    Sampling rounds, and Adam would follow the sign of a rounding error as that of any difference.
    """
    still = (flow == 0).all(dim=1, keepdim=True)
    return torch.where(still, f, warp(f, flow))


def _visible(
    x: Float[Tensor, "K C h w"], occlusion: Float[Tensor, "K h w"]
) -> Float[Tensor, "K C h w"]:
    return x * (1 - occlusion)[:, None]


def _resized_flow(flow: Float[Tensor, "T 2 H W"], rows: int, cols: int) -> Tensor:
    scale = flow.new_tensor((cols / flow.shape[-1], rows / flow.shape[-2]))
    return F.interpolate(flow * scale[:, None, None], size=(rows, cols), mode="bilinear")


def _pooled(occlusion: Float[Tensor, "T H W"], rows: int, cols: int) -> Float[Tensor, "T h w"]:
    return F.adaptive_max_pool2d(occlusion[:, None], (rows, cols))[:, 0]
