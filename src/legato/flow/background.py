"""Keep what lies behind the moving things the same in every frame.

A background mask is 1 where a frame shows background, any size, `T 1 h w`.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.flow.correspondence import CyclicMotion
from legato.flow.resample import resample
from legato.flow.warp import warp

MARGIN = 7
"""Cells across by which what stands out is widened; also covers the blur of its mask."""
PIXEL_MARGIN = 13
"""Pixels across by which occlusions are widened at full size."""


def background_of(saliency: Float[Tensor, "T 1 h w"]) -> Float[Tensor, "T 1 h w"]:
    """Return the background mask that leaves out what is salient, and a margin around it.

    Args:
        saliency: 0 to 1, of any model, or of `foreground.stand_out`.
    """
    return 1 - widened(saliency, MARGIN)


def widened(mask: Float[Tensor, "N 1 H W"], size: int) -> Float[Tensor, "N 1 H W"]:
    """Return the sum over a square window, at most 1: the maximum, where a mask is 0 or 1.

    Differs: soft values of the window add up, as in FRESCO's released code.

    Args:
        mask: 0 to 1; its border is repeated outwards.
        size: of the window, cells, odd.
    """
    padded = F.pad(mask.float(), [size // 2] * 4, mode="replicate")
    return F.avg_pool2d(padded, size, stride=1, divisor_override=1).clamp(0, 1)


def smooth_background(
    x: Float[Tensor, "B T C h w"],
    motion: CyclicMotion,
    background: Float[Tensor, "T 1 r c"],
) -> Float[Tensor, "B T C h w"]:
    """Carry the background of frame 0 through all frames along the flow; frame 0 stays as it is.

    In turn x_{t+1} <- (1 - m) x_{t+1} + m W(x_t) with m = (1 - occlusion) B_{t+1} W(B_t) and W the
    warp by the backward flow; at last frame T-1 once more from frame 0 by the forward flow.
    FRESCO's released code, after Khachatryan et al. 2023, arXiv:2303.13439.

    Args:
        x: features, latents or pixels; float32 inside, its dtype outside.
        motion: at any size; at x's own, occlusions are widened.
        background: 0 to 1.
    """
    batch, num_frames = x.shape[:2]
    size = x.shape[-2], x.shape[-1]
    at_size = motion.resized(size)
    behind = resample(background.float(), size)
    frames = list(x.float().unbind(dim=1))

    def blend(source: int, target: int, flow: Tensor, hidden: Tensor) -> None:
        hidden = hidden[None, None].float()
        if size == motion.size:
            hidden = widened(hidden, PIXEL_MARGIN)
        share = (1 - hidden) * behind[target : target + 1] * warp(behind[source : source + 1], flow)
        carried = warp(frames[source], flow.expand(batch, -1, -1, -1))
        frames[target] = (1 - share) * frames[target] + share * carried

    for t in range(num_frames - 1):
        blend(t, t + 1, at_size.flow_backward[t : t + 1], at_size.occluded_backward[t])
    if num_frames > 1:
        blend(0, num_frames - 1, at_size.flow_forward[-1:], at_size.occluded_forward[-1])
    return torch.stack(frames, dim=1).to(x.dtype)
