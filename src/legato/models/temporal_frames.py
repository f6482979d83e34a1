"""`TemporalConv` frame by frame, for CPUs without gradients: no map of a whole clip in between.

A convolution along time is a product of matrices per tap, added up; what lies between two frames'
products stays in the cache, and nothing is too large for the C library to keep (0011).
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from legato.models.norm_statistics import affine_of_maps

Frames = Sequence[Float[Tensor, "P C"]]
"""The pixels of each frame of a clip."""


def pixels_of_frames(clip: Float[Tensor, "T C H W"]) -> Frames:
    """Return the pixels of each frame as rows: views where the memory is channels-last."""
    return list(clip.permute(0, 2, 3, 1).flatten(1, 2).unbind())


def activated(norm: nn.GroupNorm, frames: Frames) -> Iterator[Float[Tensor, "P C"]]:
    """Yield SiLU(GN(x)) of each frame, the norm's statistics over all of them.

    Each frame's own, by a two-pass variance, are joined in float64.
    """
    found = [torch.batch_norm_update_stats(frame, None, None, 0.0) for frame in frames]
    means, variances = (torch.stack(own).double() for own in zip(*found, strict=True))
    scale, shift = affine_of_maps(norm, means, variances, len(frames))
    for frame in frames:
        yield F.silu(torch.addcmul(shift[0], frame, scale[0]), inplace=True)


def add_convolution_(
    targets: Frames,
    conv: nn.Conv3d,
    frames: Iterator[Float[Tensor, "P C"]],
    *,
    scale: float,
) -> None:
    """Add a (k,1,1) convolution of frames to others, without its bias and zeros beyond the clip.

    Args:
        targets: what each frame's result is added to, in place.
        conv: its weights `D C k 1 1`.
        frames: what is convolved, one at a time.
        scale: of the weights.
    """
    taps = [tap.t() * scale for tap in conv.weight[..., 0, 0].unbind(dim=2)]
    reach = len(taps) // 2
    for index, frame in enumerate(frames):
        for place, tap in enumerate(taps):
            if 0 <= index + reach - place < len(targets):
                targets[index + reach - place].addmm_(frame, tap)
