"""Drawn surfaces: on a plane, smooth between straight lines, each its own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.training import drawn_surface as surface
from legato.training.drawn_foreground import FINENESS, Canvas
from legato.training.drawn_surface import with_surfaces

GREY = np.full((3, 48, 64, 3), 128, np.uint8)
seeds = st.integers(0, 2**32 - 1)


def on_plane(seed, size=(160, 240)):
    rng = np.random.default_rng(seed)
    u, v = surface._plane((0, size[0]), (0, size[1]), rng)
    return surface._Surface(u, v, np.full((*size, 3), 128, np.float32), rng)


@given(seed=seeds)
@settings(max_examples=40)
def test_the_same_numbers_draw_the_same_and_leave_the_clip_alone(seed):
    clip = np.random.default_rng(seed).integers(0, 256, GREY.shape, np.uint8)
    kept = clip.copy()
    made = with_surfaces(clip, np.random.default_rng(seed))
    assert made.shape == clip.shape
    assert np.array_equal(made, with_surfaces(clip, np.random.default_rng(seed)))
    assert np.array_equal(clip, kept)


def test_some_clips_are_covered_and_most_still_show_something_of_what_was_there():
    white, black = np.full_like(GREY, 255), np.zeros_like(GREY)
    hidden = []
    for seed in range(60):
        pair = [with_surfaces(clip, np.random.default_rng(seed)) for clip in (white, black)]
        hidden.append(float((pair[0] == pair[1]).mean()))
    assert sum(share == 1.0 for share in hidden) > 10
    assert sum(share < 0.95 for share in hidden) > 25
    assert len(set(hidden)) > 30


@given(seed=seeds)
@settings(max_examples=60)
def test_a_plane_is_seen_from_its_front_and_straight_lines_stay_straight(seed):
    u, v = surface._plane((30, 330), (60, 540), np.random.default_rng(seed))
    points = np.float64([u[[20, 150, 280], [40, 240, 440]], v[[20, 150, 280], [40, 240, 440]]])
    # three points of a line of the picture lie on a line of the plane
    first, second = (points[:, 1:] - points[:, :1]).T
    area = first[0] * second[1] - first[1] * second[0]
    assert abs(area) <= 1e-3 * np.linalg.norm(first) * np.linalg.norm(second)
    middle = np.hypot(u, v)[150 - 3 : 150 + 3, 240 - 3 : 240 + 3].max()
    assert middle < 3  # its origin lies in the middle, at the scale of the clip
    side = np.hypot(u[150, 241] - u[150, 239], v[150, 241] - v[150, 239])
    assert side == pytest.approx(2 / FINENESS, rel=0.05)


@pytest.mark.parametrize("paint", sorted(set(surface._PAINTS), key=lambda p: p.__name__))
def test_paints_leave_most_of_a_surface_smooth(paint):
    steps, spreads = [], []
    for seed in range(12):
        plane = on_plane(seed)
        paint(plane)
        change = [np.abs(np.diff(plane.colours[..., 0], axis=axis)) for axis in (0, 1)]
        steps.append(float(np.mean([(c > 8).mean() for c in change])))
        spreads.append(float(plane.colours.std()))
    if paint is surface._plain:
        assert max(spreads) == 0
    else:
        assert max(steps) > 0.01
        assert np.mean(steps) < 0.2
        assert min(spreads) > 0
        assert len(set(spreads)) == 12  # never the same twice


def test_cells_are_rectangles_with_a_number_each():
    plane = on_plane(0)
    straight = surface._Surface(
        *np.meshgrid(np.arange(24, dtype=np.float32), np.arange(12, dtype=np.float32)),
        np.zeros((12, 24, 3), np.float32),
        plane.rng,
    )
    x, y, dice = straight.cells(6.0, 4.0, 0.0)
    assert np.allclose(x[0], np.arange(24) % 6 / 6)
    assert np.allclose(y[:, 0], np.arange(12) % 4 / 4)
    blocks = dice.reshape(3, 4, 4, 6).swapaxes(1, 2)
    assert np.all(blocks == blocks[:, :, :1, :1])
    assert len(np.unique(blocks)) == 12
    shifted = straight.cells(6.0, 4.0, 0.5)[0]
    assert np.allclose(shifted[4], (np.arange(24) / 6 + 0.5) % 1)


def test_a_fence_leaves_room():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        canvas = Canvas.empty((48, 64), np.full((16, 3), 200, np.uint8))
        rows, cols = canvas.alpha.shape
        surface._fence(canvas, *surface._plane((0, rows), (0, cols), rng), rng)
        assert 0.01 < (canvas.alpha > 0).mean() < 0.65
        assert np.all(canvas.colours == 200)


def test_lines_of_panels_are_thin_and_straight():
    """Of one family at most `period / 3` is line; along the line nothing changes."""
    u, v = np.meshgrid(np.arange(300, dtype=np.float32), np.arange(20, dtype=np.float32))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        upright = surface._Surface(u, np.zeros_like(v), np.zeros((20, 300, 3), np.float32), rng)
        surface._lines(upright)
        assert np.all(upright.colours == upright.colours[:1])


def test_joints_are_thin_dark_or_bright_and_straight():
    """Along a joint nothing changes; what lies between is as it was; most joints are near black."""
    u, v = np.meshgrid(np.arange(600, dtype=np.float32), np.arange(20, dtype=np.float32))
    darkest, covered = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ground = np.full((20, 600, 3), 180, np.float32)
        upright = surface._Surface(u / FINENESS, np.zeros_like(v), ground, rng)
        surface._joints(upright)
        assert np.all(upright.colours == upright.colours[:1])
        assert upright.colours.min() >= 0
        assert upright.colours.max() <= 255
        touched = np.abs(upright.colours[0, :, 0] - 180) > 1
        covered.append(touched.mean())
        darkest.append(upright.colours.min())
    assert 0.01 < np.mean(covered) < 0.35
    assert np.median(darkest) < 70
    assert max(darkest) >= 180  # of some all are bright


def test_covering_wholly_gives_the_level_and_not_at_all_nothing():
    plane = on_plane(3, size=(20, 30))
    share = np.zeros((20, 30), np.float32)
    share[5], share[6] = 1, 0.25
    plane.cover(share, 28.0)
    assert np.all(plane.colours[5] == 28)
    assert np.all(plane.colours[6] == 103)
    assert np.all(np.delete(plane.colours, (5, 6), axis=0) == 128)
