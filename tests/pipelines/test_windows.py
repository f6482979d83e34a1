"""Window plans: every frame covered, weights sum to 1, segments see the whole shot's windows."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from legato.pipelines.windows import Grid, plan_segment_windows, reference_windows

grids = st.integers(1, 12).flatmap(
    lambda size: st.builds(Grid, size=st.just(size), overlap=st.integers(0, size - 1))
)


def plan_windows(num_frames, grid):
    """Cover a whole clip."""
    return plan_segment_windows(0, num_frames, grid, needed=(0, num_frames), ends=True)


def totals(windows):
    found = {}
    for window in windows:
        assert len(window.weights) == window.size
        for offset, weight in enumerate(window.weights):
            assert weight > 0
            found[window.start + offset] = found.get(window.start + offset, 0) + weight
    return found


@settings(max_examples=200)
@given(num_frames=st.integers(1, 70), grid=grids)
def test_every_frame_is_covered_with_total_weight_one(num_frames, grid):
    windows = plan_windows(num_frames, grid)
    found = totals(windows)
    assert sorted(found) == list(range(num_frames))
    assert all(abs(total - 1) < 1e-9 for total in found.values())
    assert all(window.size == min(grid.size, num_frames) for window in windows)
    assert len({window.start for window in windows}) == len(windows)


@settings(max_examples=300)
@given(
    num_frames=st.integers(1, 60),
    segment=st.integers(1, 20),
    position=st.integers(0, 59),
    beyond=st.integers(0, 6),
    grid=grids,
)
def test_a_segment_sees_the_windows_and_weights_of_the_whole_shot(
    num_frames, segment, position, beyond, grid
):
    assume(position < num_frames)
    first = max(0, position - (grid.size - 1))
    emit_stop = min(position + segment, num_frames)
    context_after = beyond + grid.size
    stop = min(emit_stop + context_after, num_frames)
    ends = stop - emit_stop < context_after
    needed = (position, min(emit_stop + beyond, stop))
    windows = plan_segment_windows(first, stop, grid, needed=needed, ends=ends)

    def seen(plan, shift):
        return {
            (w.start + shift + k, w.start + shift): weight
            for w in plan
            for k, weight in enumerate(w.weights)
            if needed[0] <= w.start + shift + k < emit_stop
        }

    assert seen(windows, first) == pytest.approx(seen(plan_windows(num_frames, grid), 0))
    assert set(range(needed[0] - first, needed[1] - first)) <= totals(windows).keys()


def test_windows_of_eight_overlap_by_two():
    windows = plan_windows(20, Grid(size=8, overlap=2))
    assert [(w.start, w.stop) for w in windows] == [(0, 8), (6, 14), (12, 20)]
    assert windows[0].weights[-2:] == pytest.approx((2 / 3, 1 / 3))
    assert windows[1].weights[:2] == pytest.approx((1 / 3, 2 / 3))


def test_the_last_window_ends_with_the_clip():
    assert [w.start for w in plan_windows(17, Grid(size=8, overlap=2))] == [0, 6, 9]


def test_a_grid_that_does_not_advance_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        Grid(size=4, overlap=4)


@pytest.mark.parametrize(
    ("num_frames", "starts"),
    [(5, [0]), (8, [0]), (9, [0, 1]), (11, [0, 3]), (13, [0, 5, 5]), (14, [0, 6, 6])],
)
def test_reference_windows_repeat_where_the_reference_does(num_frames, starts):
    windows = reference_windows(num_frames)
    assert [w.start for w in windows] == starts
    assert all(abs(total - 1) < 1e-12 for total in totals(windows).values())


def test_a_frame_seen_three_times_weighs_the_last_visit_most():
    """32 frames: six calls for five distinct windows; frame 24 is in three of them."""
    windows = reference_windows(32)
    assert [w.start for w in windows] == [0, 6, 12, 18, 24, 24]
    assert [w.weights[24 - w.start] for w in windows if w.start <= 24 < w.stop] == [0.25, 0.25, 0.5]
