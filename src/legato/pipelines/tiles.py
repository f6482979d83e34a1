"""Overlapping tiles in space: less memory, the same latent state at every step."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.diffusion.spans import Span, Tile
from legato.pipelines.windows import ramp

MIN_OVERLAP = 8
MULTIPLE = 8
"""Rows and columns of latents are padded to multiples of it; the U-Nets halve three times."""


def plan_tiles(rows: int, cols: int, *, tile: int, multiple: int = 1) -> list[Tile]:
    """Cover a plane with tiles of at most `tile` x `tile` cells; weights sum to 1 at every cell.

    As few as possible, no larger than they must be to share at least an eighth of `tile`.

    Args:
        rows: of the plane.
        cols: of the plane.
        tile: longest side of a tile in cells; 0 gives one tile, the whole plane.
        multiple: tiles start and end at multiples of it, where the plane does.
    """
    size = max(tile // multiple, 2) * multiple if tile else 0
    shared = max(MIN_OVERLAP, size // 8)
    return [
        Tile(row, col)
        for row in plan_axis(rows, size=size, overlap=shared, multiple=multiple)
        for col in plan_axis(cols, size=size, overlap=shared, multiple=multiple)
    ]


def plan_axis(length: int, *, size: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Cover one axis with evenly spread spans of one size that share at least `overlap` positions.

    Args:
        length: of the axis.
        size: of a span, at most; 0, or more than the axis holds, gives one span.
        overlap: at least this much is shared by neighbours, rounded up to a multiple; cut down to
            half of `size`.
        multiple: of which `size`, all spans and all starts are multiples, but for the last start
            where the length is none.
    """
    if size == 0 or size >= length:
        return [Span.whole(length)]
    shared = min(-(-overlap // multiple), size // multiple // 2) * multiple
    count = -(-(length - shared) // (size - shared))
    span = -(-(length + (count - 1) * shared) // (count * multiple)) * multiple
    starts = [(length - span) * k // (count - 1) // multiple * multiple for k in range(count - 1)]
    starts.append(length - span)
    weights = [0.0] * length
    ramps = []
    for k, start in enumerate(starts):
        widest = max(shared, 1)
        if k > 0:
            widest = max(widest, starts[k - 1] + span - start)
        if k + 1 < count:
            widest = max(widest, start + span - starts[k + 1])
        ramps.append(ramp(span, min(widest, span // 2)))
        for offset, weight in enumerate(ramps[-1]):
            weights[start + offset] += weight
    return [
        Span(start, start + span, tuple(w / weights[start + k] for k, w in enumerate(own)))
        for start, own in zip(starts, ramps, strict=True)
    ]


def padded(
    x: Float[Tensor, "T C H W"], rows: int | None = None, cols: int | None = None
) -> Float[Tensor, "T C h w"]:
    """Repeat the last row and column up to a size, by default the next multiples of `MULTIPLE`."""
    below = (rows - x.shape[-2]) if rows is not None else -x.shape[-2] % MULTIPLE
    right = (cols - x.shape[-1]) if cols is not None else -x.shape[-1] % MULTIPLE
    if x.shape[0] == 0 or (below == 0 and right == 0):
        return x
    return F.pad(x, (0, right, 0, below), mode="replicate")
