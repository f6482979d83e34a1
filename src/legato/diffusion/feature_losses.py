"""How far decoder features are from moving with the frames, and from the input's own structure.

Yang et al. 2024, arXiv:2403.12962, section 4.3. Neither loss holds an N x N matrix for all frames:
the similarities of N positions of one frame are computed a few rows at a time, or not at all.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from legato.flow.correspondence import CyclicMotion
from legato.flow.warp import warp

SIMILARITIES_AT_A_TIME = 1 << 21
"""Entries of a Gram matrix in memory together."""


def temporal_both_ways(f: Float[Tensor, "T C h w"], flow: CyclicMotion) -> Float[Tensor, ""]:
    """Return the mean over all elements of what warping leaves, forth and back, cyclic.

    The released code's loss: |f[i+1] - warp(f[i], b)| + |f[i] - warp(f[i+1], g)| where visible.

    Args:
        f: features of consecutive frames.
        flow: at the features' size.
    """
    following = f.roll(-1, dims=0)
    back = _visible(following - _warped(f, flow.flow_backward), flow.occluded_backward)
    forth = _visible(f - _warped(following, flow.flow_forward), flow.occluded_forward)
    return (back.abs() + forth.abs()).mean()


def temporal_onward(f: Float[Tensor, "T C h w"], flow: CyclicMotion) -> Float[Tensor, ""]:
    """Return the sum over pairs of |f[i+1] - warp(f[i], b)| where visible; the paper's loss.

    Args:
        f: features of consecutive frames.
        flow: at the features' size; the pair that leads back to frame 0 is left out.
    """
    warped = _warped(f[:-1], flow.flow_backward[:-1])
    return _visible(f[1:] - warped, flow.occluded_backward[:-1]).abs().sum()


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
    x: Float[Tensor, "K C h w"], occluded: Bool[Tensor, "K h w"]
) -> Float[Tensor, "K C h w"]:
    return x.masked_fill(occluded[:, None], 0)
