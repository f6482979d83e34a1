"""Overlapping pieces of an axis, and merging what was computed on each of them.

A *window* is a span of frames; a *tile* is a span of rows times a span of columns. Spans carry
their own merging weights, so that merging is one weighted sum whatever plan made them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Span(NamedTuple):
    """Positions start..stop-1 of an axis and the weight of each in the merged result.

    In a plan, the weights of all spans at one position sum to 1.
    """

    start: int
    stop: int
    weights: tuple[float, ...]

    @classmethod
    def whole(cls, length: int) -> "Span":
        """Return the only span of an axis."""
        return cls(0, length, (1.0,) * length)

    @property
    def size(self) -> int:
        """Number of positions."""
        return self.stop - self.start


class Tile(NamedTuple):
    """A rectangle of latent cells; its weight is the product of its rows' and columns' weights."""

    rows: Span
    cols: Span


def merge_windows(
    windows: Sequence[Span], compute: Callable[[Span], Tensor], *, num_frames: int
) -> Float[Tensor, "B T *rest"]:
    """Return the weighted sum over windows of `compute(window)`, float32, frames on axis 1.

    Args:
        windows: the plan; positions that no window covers stay 0.
        compute: gives `B size *rest` for a window.
        num_frames: length of the whole axis.
    """
    merged: Tensor | None = None
    for window in windows:
        part = compute(window).float()
        if merged is None:
            if len(windows) == 1 and window.size == num_frames and set(window.weights) == {1.0}:
                return part
            merged = part.new_zeros(part.shape[0], num_frames, *part.shape[2:])
        weights = part.new_tensor(window.weights).view(1, -1, *[1] * (part.dim() - 2))
        merged[:, window.start : window.stop] += weights * part
    if merged is None:
        raise ValueError("a plan without windows")
    return merged


def merge_tiles(
    tiles: Sequence[Tile],
    compute: Callable[[Tile], Tensor],
    *,
    size: tuple[int, int],
    scale: int = 1,
) -> Float[Tensor, "*rest H W"]:
    """Return the weighted sum over tiles of `compute(tile)`, float32, over the last two axes.

    Args:
        tiles: the plan, in cells.
        compute: gives `*rest rows*scale cols*scale` for a tile.
        size: (rows, cols) of the whole plane, in cells.
        scale: cells of the result per cell of the plan, each way.
    """
    if len(tiles) == 1:
        return compute(tiles[0]).float()
    merged: Tensor | None = None
    total = torch.zeros(size[0] * scale, size[1] * scale)
    for tile in tiles:
        part = compute(tile).float()
        if merged is None:
            merged = part.new_zeros(*part.shape[:-2], *total.shape)
            total = total.to(part.device)
        rows = slice(tile.rows.start * scale, tile.rows.stop * scale)
        cols = slice(tile.cols.start * scale, tile.cols.stop * scale)
        weights = _ramp(tile.rows, scale, part)[:, None] * _ramp(tile.cols, scale, part)[None]
        merged[..., rows, cols] += weights * part
        total[rows, cols] += weights
    if merged is None:
        raise ValueError("a plan without tiles")
    return merged.div_(total)


def _ramp(span: Span, scale: int, like: Tensor) -> Float[Tensor, " size"]:
    weights = like.new_tensor(span.weights)
    if scale == 1:
        return weights
    return torch.nn.functional.interpolate(
        weights[None, None], scale_factor=scale, mode="linear", align_corners=False
    )[0, 0]
