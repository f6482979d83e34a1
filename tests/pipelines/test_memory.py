import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legato.errors import ResourceError
from legato.pipelines.memory import (
    MIN_TILE,
    SHARE,
    ActivationMeter,
    Footprint,
    Shape,
    choose_tile,
    estimate_bytes,
    is_out_of_memory,
    smaller_tiles,
)

SHAPE = Shape(rows=360, cols=640, frames=48, scale=4)
FOOTPRINT = Footprint(fixed=10**7, per_cell=1000.0)


def estimate(tile):
    return estimate_bytes(FOOTPRINT, SHAPE, tile=tile, window=8)


def test_enough_memory_needs_no_tiles():
    assert choose_tile(estimate, SHAPE, wanted=None, available=10**11) is None


@given(st.integers(10**8, 10**11))
def test_the_chosen_tile_is_the_largest_that_fits_in_the_share(available):
    try:
        tile = choose_tile(estimate, SHAPE, wanted=None, available=available)
    except ResourceError:
        assert estimate(MIN_TILE) > SHARE * available
        return
    assert estimate(tile) <= SHARE * available
    if tile is not None:
        larger = [None, *(t for t in smaller_tiles(None, SHAPE) if t > tile)]
        assert all(estimate(t) > SHARE * available for t in larger)


def test_a_wanted_tile_that_does_not_fit_is_refused_with_the_one_that_does():
    available = int(estimate(128) / SHARE) + 1
    with pytest.raises(ResourceError, match="use --tile 128"):
        choose_tile(estimate, SHAPE, wanted=512, available=available)


def test_a_refusal_tells_the_numbers():
    with pytest.raises(ResourceError, match=r"GB of memory needed for 640x360.*0\.0 GB"):
        choose_tile(estimate, SHAPE, wanted=None, available=10**6)


@given(st.integers(16, 5000), st.integers(16, 5000))
def test_smaller_tiles_shrink_and_end_at_the_smallest(rows, cols):
    tiles = smaller_tiles(None, Shape(rows=rows, cols=cols, frames=1, scale=4))
    assert tiles == sorted(tiles, reverse=True)
    assert all(MIN_TILE <= tile < max(rows, cols) for tile in tiles)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_a_lack_of_memory_counts_as_one(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_meter_sees_the_largest_call():
    network = torch.nn.Sequential(torch.nn.Linear(10, 30), torch.nn.Linear(30, 5))
    with ActivationMeter() as meter:
        network(torch.zeros(2, 10))
    network(torch.zeros(200, 10))  # not counted any more
    assert meter.largest == 2 * (10 + 30) * 4
