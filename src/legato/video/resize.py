"""Antialiased resampling by any factor."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def resize(frames: Float[Tensor, "T C H W"], size: tuple[int, int]) -> Float[Tensor, "T C H2 W2"]:
    """Resample with a bicubic kernel (a = -0.5), widened when reducing so that nothing aliases.

    Values may overshoot the input's range by a little at sharp edges; they are not clipped, and
    are resampled as coded, without linearisation, as the upscaler's own factor is. A constant
    picture stays that constant; the same size returns the same numbers.

    Args:
        frames: any range.
        size: rows and columns wanted, each at least 1.
    """
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    resampled = F.interpolate(
        frames.float(), size=size, mode="bicubic", antialias=True, align_corners=False
    )
    return resampled.to(frames.dtype)
