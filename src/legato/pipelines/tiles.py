"""Overlapping tiles in space: less memory, the same latent state at every step."""

from legato.diffusion.spans import Span, Tile
from legato.pipelines.windows import ramp

MIN_OVERLAP = 8


def plan_tiles(rows: int, cols: int, *, tile: int, multiple: int = 1) -> list[Tile]:
    """Cover a plane with tiles of at most `tile` x `tile` cells; weights sum to 1 at every cell.

    Neighbours share at least a quarter of a tile.

    Args:
        rows: of the plane.
        cols: of the plane.
        tile: side of a tile in cells; 0 gives one tile, the whole plane.
        multiple: tiles start and end at multiples of it, where the plane does.
    """
    size = max(tile // multiple, 2) * multiple if tile else 0
    shared = max(MIN_OVERLAP, size // 4)
    return [
        Tile(row, col)
        for row in plan_axis(rows, size=size, overlap=shared, multiple=multiple)
        for col in plan_axis(cols, size=size, overlap=shared, multiple=multiple)
    ]


def plan_axis(length: int, *, size: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Cover one axis with evenly spread spans of `size` that share at least `overlap` positions.

    Args:
        length: of the axis.
        size: of a span; 0, or more than the axis holds, gives one span.
        overlap: at least this much is shared by neighbours; cut down to half a span.
        multiple: of which all starts are multiples, but for the last where the length is none.
    """
    if size == 0 or size >= length:
        return [Span(0, length, (1.0,) * length)]
    shared = min(overlap, size // 2)
    stride = max((size - shared) // multiple * multiple, multiple)
    count = -(-(length - size) // stride) + 1
    starts = [(length - size) * k // (count - 1) // multiple * multiple for k in range(count - 1)]
    starts.append(length - size)
    weights = [0.0] * length
    ramps = []
    for k, start in enumerate(starts):
        widest = max(shared, 1)
        if k > 0:
            widest = max(widest, starts[k - 1] + size - start)
        if k + 1 < count:
            widest = max(widest, start + size - starts[k + 1])
        ramps.append(ramp(size, min(widest, size // 2)))
        for offset, weight in enumerate(ramps[-1]):
            weights[start + offset] += weight
    return [
        Span(start, start + size, tuple(w / weights[start + k] for k, w in enumerate(own)))
        for start, own in zip(starts, ramps, strict=True)
    ]
