from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legato.errors import ResourceError
from legato.pipelines.memory import (
    MIN_SEGMENT,
    MIN_TILE,
    SHARE,
    ActivationMeter,
    Footprint,
    Shape,
    bytes_per_pixel,
    choose_size,
    estimate_bytes,
    is_out_of_memory,
    smaller_tiles,
)

SIZE = (640, 360)
FOOTPRINT = Footprint(unet=10**7, decoder=0, denoising=4000.0, decoding=3000.0)
TILES = (None, 512, 256, 128, 64)


def estimate(tile, segment):
    return estimate_bytes(
        FOOTPRINT,
        Shape(rows=360, cols=640, frames=segment + 30, scale=4, window=8),
        tile=tile,
        frames_decoded=lambda cells, picture: max(2**18 // cells, 1),
        num_finished=1,
    )


def choose(available, tiles=TILES):
    return choose_size(estimate, tiles, 32, size=SIZE, available=available)


def test_enough_memory_changes_nothing():
    assert choose(10**11) == (None, 32)


@given(st.integers(10**8, 10**11))
def test_the_choice_is_the_longest_segment_that_fits_with_the_largest_tile(available):
    budget = SHARE * available
    try:
        tile, segment = choose(available)
    except ResourceError:
        assert estimate(64, MIN_SEGMENT) > budget
        return
    assert estimate(tile, segment) <= budget
    assert all(estimate(t, segment) > budget for t in TILES[: TILES.index(tile)])
    if segment < 32:
        assert all(estimate(t, 2 * segment) > budget for t in TILES)


def test_very_large_frames_are_held_in_small_numbers():
    """A frame of 67 million pixels takes 0.8 GB as floats; the encoder would hold 50 in 5 GB."""
    shape = Shape(rows=1386, cols=3026, frames=4, scale=4, window=8)
    needed = estimate_bytes(
        FOOTPRINT, shape, tile=128, frames_decoded=lambda cells, picture: 1, num_finished=1
    )
    assert needed < 11e9


def test_every_tile_holds_a_stream_of_its_own():
    shape = Shape(rows=720, cols=1280, frames=4, scale=4, window=8)

    def needed(footprint, tile):
        return estimate_bytes(
            footprint, shape, tile=tile, frames_decoded=lambda cells, picture: 1, num_finished=1
        )

    streaming = replace(FOOTPRINT, denoising=0.0, held=2000)
    alone = replace(streaming, held=0)
    assert needed(streaming, 0) == needed(alone, 0)
    six_tiles, cells = (392 * 472 * 6, 392 * 472)
    more = needed(streaming, 512) - needed(alone, 512)
    assert more == pytest.approx(2000 * (six_tiles - cells), abs=1)


def test_encoders_that_look_ahead_unhindered_and_solvers_that_look_back_need_more():
    large = Shape(rows=1386, cols=3026, frames=4, scale=4, window=8)
    sizes = [
        estimate_bytes(
            FOOTPRINT, shape, tile=128, frames_decoded=lambda cells, picture: 1, num_finished=1
        )
        for shape in (large, replace(large, codec="av1"))
    ]
    assert sizes[1] - sizes[0] == int(1.5 * 32) * 3026 * 1386 * 16
    few = bytes_per_pixel(num_steps=1, propagates=False, looks_back=True)
    steps = bytes_per_pixel(num_steps=8, propagates=False)
    assert few < steps < bytes_per_pixel(num_steps=8, propagates=False, looks_back=True)
    assert steps < bytes_per_pixel(num_steps=8, propagates=False, is_guided=True)
    kept = bytes_per_pixel(num_steps=8, propagates=False, keeps_first=True)
    assert kept - steps == 4 * 4  # channels in float32
    pixels = bytes_per_pixel(num_steps=8, propagates=False, latent_channels=48)
    assert pixels - steps == 44 * 4 * 5  # start, noise, x_0, eps and prediction


def test_a_wanted_tile_that_does_not_fit_is_refused():
    available = int(estimate(128, MIN_SEGMENT) / SHARE) + 1
    with pytest.raises(ResourceError, match="leave --tile out"):
        choose(available, tiles=(512,))


def test_a_refusal_tells_the_numbers():
    with pytest.raises(ResourceError, match=r"GB of memory needed for 640x360.*0\.0 GB"):
        choose(10**6)


@given(st.integers(16, 5000), st.integers(16, 5000))
def test_smaller_tiles_shrink_and_end_at_the_smallest(rows, cols):
    tiles = smaller_tiles(None, (cols, rows))
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
    with ActivationMeter(network) as meter:
        network(torch.zeros(2, 10))
    network(torch.zeros(200, 10))  # not counted any more
    assert meter.largest == 2 * (10 + 30) * 4
