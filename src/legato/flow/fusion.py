"""Fuse finished frames with their neighbours along their own flow, on a stream of any length.

A frame only looks one frame either way, so it comes out when the next one is there, and no way of
cutting a clip changes it.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.flow.dis import DisFlow
from legato.flow.occlusion import consistency
from legato.flow.warp import warp

WEIGHT = 0.8
"""Of a neighbour that agrees, where the frame itself counts 1."""
COARSE_WEIGHT = 1.0
"""The same in `fuse_coarse`."""
SAME = 0.15
"""Difference of brightness, of a range from -1 to 1, at which a neighbour counts 1/e of that."""
_NEARBY = 5  # side of the square over which brightness is compared: noise evens out
_RELATIVE, _ABSOLUTE_PX2 = 0.01, 0.4  # of the consistency of the flow; square pixels at full size


class _Frame(NamedTuple):
    """A frame, and as large as it is fused: at half the size in a quarter of the time."""

    full: Float[Tensor, "1 3 H W"]
    small: Float[Tensor, "1 3 h w"]

    @classmethod
    def of(cls, full: Float[Tensor, "1 3 H W"], reduction: int) -> "_Frame":
        return cls(full, F.avg_pool2d(full, reduction, ceil_mode=True))


class _Share(NamedTuple):
    """What a neighbour adds to a reduced frame."""

    weighted: Float[Tensor, "1 3 h w"]
    weight: Float[Tensor, "1 1 h w"]


class TemporalFusion:
    """Makes one clip steadier, piece by piece; the pieces together give what the whole clip gives.

    With x a reduced frame and W the neighbour before or after, warped, x becomes
    (x + sum w W) / (1 + sum w): w is the weight where forward and backward flow undo each other,
    and falls with the difference of brightness nearby, so that what is hidden, flashes or fades is
    left alone. The change is enlarged and added to the frame, which keeps what is finer as its own:
    detail is drawn a little differently in every frame, and its mean is a blur. The flow is that of
    the finished frames, by DIS on any device.

    Args:
        weight: of a neighbour that agrees, where the frame itself counts 1.
        reduction: how many times smaller, each way, frames are where they are fused.
    """

    def __init__(self, *, weight: float = WEIGHT, reduction: int = 2) -> None:
        self._estimate, self._weight, self._reduction = DisFlow(), weight, reduction
        self._own: _Frame | None = None
        self._before: list[_Share] = []

    def __call__(
        self, frames: Float[Tensor, "T 3 H W"], *, is_last: bool
    ) -> Float[Tensor, "t 3 H W"]:
        """Return the frames whose neighbours are known: one behind, and the rest at last.

        Args:
            frames: the next ones, about [-1, 1]; none are needed.
            is_last: whether the clip ends with them.
        """
        done = []
        for k in range(frames.shape[0]):
            later = _Frame.of(frames[k : k + 1], self._reduction)
            if self._own is not None:
                after, before = self._shares(self._own.small, later.small)
                done.append(self._fused(self._own, [*self._before, after]))
                self._before = [before]
            self._own = later
        if is_last and self._own is not None:
            done.append(self._fused(self._own, self._before))
            self._own, self._before = None, []
        if len(done) == 1:
            return done[0]
        return torch.cat(done) if done else frames[:0]

    def _shares(
        self, own: Float[Tensor, "1 3 h w"], later: Float[Tensor, "1 3 h w"]
    ) -> tuple[_Share, _Share]:
        """Return what the later of two frames adds to the earlier one, and the other way round."""
        flows = self._estimate(torch.cat((own, later)))
        forth, back = (flow.to(own.device) for flow in flows)
        return self._share(later, own, forth, back), self._share(own, later, back, forth)

    def _share(
        self,
        neighbour: Float[Tensor, "1 3 h w"],
        own: Float[Tensor, "1 3 h w"],
        flow: Float[Tensor, "1 2 h w"],
        flow_home: Float[Tensor, "1 2 h w"],
    ) -> _Share:
        """Return what a neighbour adds to a frame, whose pixels the flow leads to it."""
        seen = warp(neighbour, flow, padding="border")
        nearby = F.avg_pool2d(
            (seen - own).mean(dim=1, keepdim=True),
            *(_NEARBY, 1, _NEARBY // 2),
            count_include_pad=False,
        )
        tolerance = _ABSOLUTE_PX2 / self._reduction**2
        agrees = consistency(flow, flow_home, alpha1=_RELATIVE, alpha2=tolerance)
        weight = self._weight * agrees * nearby.div_(SAME).square_().neg_().exp_()
        return _Share(seen.mul_(weight), weight)

    def _fused(self, own: _Frame, shares: list[_Share]) -> Float[Tensor, "1 3 H W"]:
        total, weight = own.small.clone(), torch.ones_like(own.small[:, :1])
        for share in shares:
            total += share.weighted
            weight += share.weight
        change = total.div_(weight).sub_(own.small)
        if self._reduction > 1:
            change = F.interpolate(change, scale_factor=self._reduction, mode="bilinear")
        return own.full + change[..., : own.full.shape[-2], : own.full.shape[-1]]


def fuse_coarse(
    frames: Float[Tensor, "T 3 H W"], *, passes: int, finer_px: float
) -> Float[Tensor, "T 3 H W"]:
    """Fuse the brightness and colour of places, while every frame keeps its own detail.

    Latents that are each wrong in their own way let places flicker; detail that is fused blurs
    (docs/decisions/0067). Motion is estimated at full size.

    Args:
        frames: a clip on the CPU, about [-1, 1].
        passes: each looks one frame further to either side.
        finer_px: what a Gaussian of this deviation takes away is detail.
    """
    fused = frames
    for _ in range(passes):
        fused = TemporalFusion(weight=COARSE_WEIGHT, reduction=1)(fused, is_last=True)
    changes = (fused - frames).permute(0, 2, 3, 1).numpy()
    coarse = [cv2.GaussianBlur(change, (0, 0), finer_px) for change in changes]
    return frames + torch.from_numpy(np.stack(coarse)).permute(0, 3, 1, 2)
