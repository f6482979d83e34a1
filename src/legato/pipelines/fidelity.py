"""Back-projection: make the output agree with the input it was made from."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

ITERATIONS = 12


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
