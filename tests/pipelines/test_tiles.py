"""Tile plans cover every cell with total weight 1; merging gives back what the tiles agree on."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.diffusion.spans import Span, merge_tiles, merge_windows
from legato.pipelines.tiles import plan_axis, plan_tiles


@settings(max_examples=300)
@given(
    blocks=st.integers(1, 40),
    size_blocks=st.integers(2, 12),
    overlap=st.integers(0, 60),
    multiple=st.sampled_from([1, 2, 8]),
)
def test_every_position_is_covered_with_total_weight_one(blocks, size_blocks, overlap, multiple):
    length, size = blocks * multiple, size_blocks * multiple
    spans = plan_axis(length, size=size, overlap=overlap, multiple=multiple)
    totals = [0.0] * length
    for span in spans:
        assert span.start % multiple == 0
        assert span.size == spans[0].size <= min(size, length)
        for offset, weight in enumerate(span.weights):
            assert weight > 0
            totals[span.start + offset] += weight
    assert totals == pytest.approx([1.0] * length)
    wanted = min(overlap, size // multiple // 2 * multiple)
    for left, right in pairwise(spans):
        assert left.stop - right.start >= wanted


@settings(max_examples=300)
@given(length=st.integers(1, 4000), size=st.integers(2, 600), overlap=st.integers(0, 60))
def test_spans_are_as_few_and_as_short_as_the_overlap_allows(length, size, overlap):
    spans = plan_axis(length, size=size, overlap=overlap)
    count, span, shared = len(spans), spans[0].size, min(overlap, size // 2)

    def reach(number: int, of_size: int) -> int:
        return number * of_size - (number - 1) * shared

    assert count == 1 or reach(count - 1, size) < length
    assert reach(count, span - 1) < length


@settings(max_examples=30)
@given(rows=st.integers(1, 50), cols=st.integers(1, 50), tile=st.sampled_from([0, 16, 24]))
def test_merging_tiles_of_a_picture_gives_the_picture(rows, cols, tile):
    picture = torch.rand(2, 3, rows, cols)
    merged = merge_tiles(
        plan_tiles(rows, cols, tile=tile),
        lambda t: picture[..., t.rows.start : t.rows.stop, t.cols.start : t.cols.stop],
        size=(rows, cols),
    )
    torch.testing.assert_close(merged, picture)


@settings(max_examples=60)
@given(rows=st.integers(1, 300), tile=st.integers(2, 25).map(lambda n: 8 * n))
def test_neighbouring_tiles_share_an_eighth_of_the_largest_and_at_least_eight_cells(rows, tile):
    tiles = plan_tiles(8 * rows, 8, tile=tile, multiple=8)
    wanted = min(max(8, tile // 8), tile // 16 * 8)
    for above, below in pairwise(tiles):
        assert above.rows.stop - below.rows.start >= wanted


@pytest.mark.parametrize("size", [(360, 640), (480, 640), (576, 720), (480, 854), (1080, 1920)])
def test_usual_pictures_are_computed_little_more_than_once(size):
    rows, cols = (-(-side // 8) * 8 for side in size)
    tiles = plan_tiles(rows, cols, tile=512, multiple=8)
    assert sum(tile.rows.size * tile.cols.size for tile in tiles) < 1.31 * rows * cols


def test_enlarged_tiles_merge_too():
    picture = torch.rand(1, 3, 4 * 40, 4 * 24)
    merged = merge_tiles(
        plan_tiles(40, 24, tile=16, multiple=8),
        lambda t: picture[
            ..., 4 * t.rows.start : 4 * t.rows.stop, 4 * t.cols.start : 4 * t.cols.stop
        ],
        size=(40, 24),
        scale=4,
    )
    torch.testing.assert_close(merged, picture)


def blended(scale):
    """A row of tiles that disagree: tile k is all k."""
    tiles = plan_tiles(8, 64, tile=32, multiple=8)
    numbers = {t.cols.start: float(k) for k, t in enumerate(tiles)}
    merged = merge_tiles(
        tiles,
        lambda t: torch.full((1, 8 * scale, t.cols.size * scale), numbers[t.cols.start]),
        size=(8, 64),
        scale=scale,
    )
    return merged[0, 0]


def test_tiles_that_disagree_blend_without_a_step():
    """The merged row must climb in steps smaller than the disagreement."""
    merged = blended(1)
    assert merged.max() - merged.min() >= 1
    assert merged.diff().abs().max() < 0.2


def test_enlarged_tiles_that_disagree_blend_in_as_much_finer_steps():
    steps = [blended(scale).diff() for scale in (1, 4)]
    assert (steps[1] > 1e-4).sum() > 3 * (steps[0] > 1e-4).sum()
    assert (steps[1] > 0.5 * steps[0].max()).sum() <= 4  # at both ends of a seam


def test_windows_merge_along_frames():
    clip = torch.rand(1, 6, 2)
    windows = [Span(0, 4, (1, 1, 0.5, 0.5)), Span(2, 6, (0.5, 0.5, 1, 1))]
    merged = merge_windows(windows, lambda w: clip[:, w.start : w.stop], num_frames=6)
    torch.testing.assert_close(merged, clip)
