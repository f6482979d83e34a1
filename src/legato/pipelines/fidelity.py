"""Back-projection: make the output agree with the input it was made from."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.pipelines.colour_fix import blur, luma_of

ITERATIONS = 12

CHANGED, BARELY_CHANGED = 0.75, 0.5
"""Change of a frame, as a share of the input's fine detail, from which the input is not trusted
and up to which it is trusted most."""
CERTAIN, DOUBTFUL = 0.38, 0.58
"""The same up to which nothing finer than the input is doubted, and from which all of it is."""
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
    """Return frames + share * r, where r leads to the input, with a share of each frame's own.

    What a model hardly changes was sharp and clean, and is nearer to the truth than what is drawn
    instead; of a damaged input there is little to trust. The change is the deviation of the luma of
    low_res - A frames over that of the input's fine detail, its luma less the same blurred; A
    reduces by area. The share falls from `most` to 0 between `BARELY_CHANGED` and `CHANGED`. While
    the change is at most `CERTAIN`, r is low_res - A frames, enlarged: what is finer was drawn in
    accord with the input, and stays. From `DOUBTFUL` on, r is the difference to the bicubic picture
    at half the output's size: a soft picture was made crisper than it is. Between them r is a blend
    of both (docs/decisions/0074, 0075).

    Args:
        frames: output in [-1, 1], at least twice as large as the input.
        low_res: input in [-1, 1]; its size divides that of the output.
        most: the largest share; 0 returns the frames.
    """
    if most == 0:
        return frames
    residual = low_res - F.avg_pool2d(frames, frames.shape[-1] // low_res.shape[-1])
    luma = luma_of(low_res)
    detail = luma - blur(blur(luma, 1, axis=-2), 1, axis=-1)
    change = _deviation(luma_of(residual)) / _deviation(detail).clamp_min(FLAT)
    share = most * ((CHANGED - change) / (CHANGED - BARELY_CHANGED)).clamp(0, 1)
    if not share.any():
        return frames
    size, doubt = frames.shape[-2:], ((change - CERTAIN) / (DOUBTFUL - CERTAIN)).clamp(0, 1)
    returned = F.interpolate(residual.mul_(share * (1 - doubt)), size=size, mode="bilinear")
    if doubt.any():
        half = F.avg_pool2d(frames, 2)
        finer = F.interpolate(low_res, size=half.shape[-2:], mode="bicubic").sub_(half)
        returned += F.interpolate(finer.mul_(share * doubt), size=size, mode="bilinear")
    return returned.add_(frames)


def _deviation(picture: Float[Tensor, "T 1 H W"]) -> Float[Tensor, "T 1 1 1"]:
    return torch.std(picture, dim=(1, 2, 3), correction=0, keepdim=True)
