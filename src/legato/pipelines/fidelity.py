"""Back-projection: make the output agree with the input it was made from."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.pipelines.colour_fix import blur, luma_of

ITERATIONS = 12

CHANGED, BARELY_CHANGED = 0.7, 0.4
"""Change of a frame, as a share of the input's fine detail, from which the input is not trusted
and up to which it is trusted most."""
FLAT = 0.5 / 127.5
"""Fine detail, half a grey level, that a change is compared with at least."""


def back_project(
    frames: Float[Tensor, "T 3 sH sW"], low_res: Float[Tensor, "T 3 H W"], *, fidelity: float
) -> Float[Tensor, "T 3 sH sW"]:
    """Return frames + fidelity * c, where c makes their reduction by area equal the input.

    c is a bicubic enlargement U of a small picture d with A U d = low_res - A frames, A being the
    reduction by area, found by d <- d + (residual - A U d) (iterative back-projection, Irani and
    Peleg 1991). Smooth by construction: no blocks appear in the output.

    Args:
        frames: output in [-1, 1].
        low_res: input in [-1, 1]; its size divides that of the output.
        fidelity: 0 returns the frames, 1 corrects wholly (to about 1e-3; less where pixels clip).
    """
    if fidelity == 0:
        return frames
    size = (low_res.shape[-2], low_res.shape[-1])

    def enlarge(small: Tensor) -> Tensor:
        return F.interpolate(small, size=frames.shape[-2:], mode="bicubic")

    def reduce(large: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(large, size)

    residual = low_res - reduce(frames)
    solution = residual
    for _ in range(ITERATIONS):
        solution = solution + (residual - reduce(enlarge(solution)))
    return frames + fidelity * enlarge(solution)


def trust_clean(
    frames: Float[Tensor, "T 3 sH sW"], low_res: Float[Tensor, "T 3 H W"], *, most: float
) -> Float[Tensor, "T 3 sH sW"]:
    """Return frames + share * U(low_res - A frames), with a share of each frame's own.

    A reduces by area, U enlarges linearly. What a model hardly changes was sharp and clean, and is
    nearer to the truth than what is drawn instead; of a damaged input there is little to trust.
    The share falls from `most` to 0 while the change, the deviation of the luma of
    low_res - A frames, grows from `BARELY_CHANGED` to `CHANGED` of the input's fine detail, the
    deviation of its luma less the same blurred (docs/decisions/0074).

    Args:
        frames: output in [-1, 1].
        low_res: input in [-1, 1]; its size divides that of the output.
        most: the largest share; 0 returns the frames.
    """
    if most == 0:
        return frames
    residual = low_res - F.avg_pool2d(frames, frames.shape[-1] // low_res.shape[-1])
    change, luma = luma_of(residual), luma_of(low_res)
    detail = luma - blur(blur(luma, 1, axis=-2), 1, axis=-1)
    ratio = _deviation(change) / _deviation(detail).clamp_min(FLAT)
    share = most * ((CHANGED - ratio) / (CHANGED - BARELY_CHANGED)).clamp(0, 1)
    if not share.any():
        return frames
    size = frames.shape[-2:]
    return F.interpolate(residual.mul_(share), size=size, mode="bilinear").add_(frames)


def _deviation(picture: Float[Tensor, "T 1 H W"]) -> Float[Tensor, "T 1 1 1"]:
    return torch.std(picture, dim=(1, 2, 3), correction=0, keepdim=True)
