"""How much memory a job needs, and the largest tile that fits."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from legato.errors import ResourceError

SHARE = 0.7  # of what is available: on a CPU too much memory does not raise, it kills
MIN_TILE = 64
FLOAT_BYTES = 4
RGB = 3
CHUNK_FRAMES = 8  # frames that are decoded to full size at a time
COPIES_AT_FULL_SIZE = 4  # model's output, colour corrected, resized, 8-bit and in the encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes that a model's own activations take, as measured by `measure_footprint`."""

    fixed: int
    """Parameters, whatever the picture's size."""
    per_cell: float
    """Activations per low-resolution pixel of one frame in a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a job computes at a time."""

    rows: int
    cols: int
    frames: int
    """In a segment with its context."""
    scale: int


def estimate_bytes(footprint: Footprint, shape: Shape, *, tile: int | None, window: int) -> int:
    """Return the expected peak of a segment's memory.

    Args:
        footprint: of the model.
        shape: of a segment.
        tile: side in low-resolution pixels; None or 0 for whole frames.
        window: frames computed together.
    """
    rows, cols = shape.rows, shape.cols
    if tile:
        rows, cols = min(rows, tile), min(cols, tile)
    active = footprint.per_cell * rows * cols * min(window, shape.frames)
    low_res = shape.rows * shape.cols * shape.frames * (RGB + 3 * 4 + RGB) * FLOAT_BYTES
    full_size = (
        COPIES_AT_FULL_SIZE
        * min(CHUNK_FRAMES, shape.frames)
        * shape.rows
        * shape.cols
        * shape.scale**2
        * RGB
        * FLOAT_BYTES
    )
    return int(footprint.fixed + active + low_res + full_size)


def choose_tile(
    estimate: Callable[[int | None], int], shape: Shape, *, wanted: int | None, available: int
) -> int | None:
    """Return the tile to use: the wanted one, or the largest that fits.

    Args:
        estimate: bytes needed with a tile.
        shape: of a segment.
        wanted: what the user asked for; None leaves the choice to us.
        available: bytes free on the device.

    Raises:
        ResourceError: the wanted tile, or even the smallest, needs more than `SHARE` of it.
    """
    budget = SHARE * available
    needed = estimate(wanted)
    if needed <= budget:
        return wanted
    fitting = (tile for tile in smaller_tiles(wanted, shape) if estimate(tile) <= budget)
    fit = next(fitting, None)
    if wanted is not None or fit is None:
        least = estimate(MIN_TILE)
        raise ResourceError(
            f"about {needed / 1e9:.1f} GB of memory needed for {shape.cols}x{shape.rows}",
            why=f"{available / 1e9:.1f} GB are available and {SHARE:.0%} of them may be used",
            fix=f"use --tile {fit}"
            if fit is not None
            else f"free memory or use a smaller --segment (tiles of {MIN_TILE} need "
            f"{least / 1e9:.1f} GB)",
        )
    return fit


def smaller_tiles(tile: int | None, shape: Shape) -> list[int]:
    """Return the tiles to try below `tile`, halving from the picture's longer side."""
    side = tile or max(shape.rows, shape.cols)
    power = 2 ** math.ceil(math.log2(max(side, 1)))
    tiles = []
    while (power := power // 2) >= MIN_TILE:
        if power < side:
            tiles.append(power)
    return tiles


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


class ActivationMeter:
    """Counts the bytes that go through a network's modules while the block runs.

    Attributes:
        largest: input and output of the largest module call, in bytes.
        total: outputs of all calls, in bytes.
    """

    def __init__(self) -> None:
        self.largest = 0
        self.total = 0

    def __enter__(self) -> "ActivationMeter":
        self._handle = nn.modules.module.register_module_forward_hook(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _count(self, module: nn.Module, inputs: object, output: object) -> None:
        if next(module.children(), None) is None:
            written = _bytes(output)
            self.largest = max(self.largest, _bytes(inputs) + written)
            self.total += written


def _bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.nelement() * value.element_size()
    if isinstance(value, tuple | list):
        return sum(_bytes(part) for part in value)
    return 0
