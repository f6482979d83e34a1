"""Drawn foregrounds: sharp, of every kind, each its own, moving or standing as a whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.training import drawn_foreground as foreground
from legato.training.drawn_foreground import with_foreground

BLACK = np.zeros((3, 64, 96, 3), np.uint8)
WHITE = np.full_like(BLACK, 255)
seeds = st.integers(0, 2**32 - 1)


def canvas(seed, size=(264, 360)):
    palette = np.full((16, 3), 200, np.uint8)
    drawn = foreground.Canvas(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), palette)
    return drawn, np.random.default_rng(seed)


@given(seed=seeds)
@settings(max_examples=40)
def test_the_same_numbers_draw_the_same_and_leave_the_clips_alone(seed):
    clip = np.random.default_rng(seed).integers(0, 256, BLACK.shape, np.uint8)
    kept = clip.copy()
    made = with_foreground(clip, WHITE, np.random.default_rng(seed))
    assert made.shape == clip.shape
    assert np.array_equal(made, with_foreground(clip, WHITE, np.random.default_rng(seed)))
    assert np.array_equal(clip, kept)


@given(seed=seeds, frames=st.integers(1, 5))
@settings(max_examples=40)
def test_a_layer_covers_from_nothing_to_all(seed, frames):
    colours, alpha = foreground._layer((frames, 40, 72), np.random.default_rng(seed))
    assert colours.shape == (frames, 40, 72, 3)
    assert alpha.shape == (frames, 40, 72, 1)
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    assert colours.max() <= 255


@pytest.mark.parametrize("kind", foreground._KINDS)
def test_every_kind_draws_sharp_things_and_leaves_room(kind):
    covered = []
    for seed in range(12):
        drawn, rng = canvas(seed)
        kind(drawn, rng)
        covered.append(float((drawn.alpha > 0).mean()))
        assert drawn.alpha.max() == 255 or not drawn.alpha.any()
    assert np.mean(covered) > 0.02
    assert min(covered) < 0.6
    assert len(set(covered)) > 6  # never the same twice


@pytest.mark.parametrize("kind", [foreground._twigs, foreground._strands, foreground._leaves])
def test_colour_lies_where_something_is_drawn(kind):
    drawn, rng = canvas(3)
    kind(drawn, rng)
    assert np.array_equal(drawn.colours.any(axis=2), drawn.alpha > 0)


def test_thin_things_reach_the_clip_with_contrast():
    """A line of half a pixel is faint; most are not."""
    made = [with_foreground(BLACK, WHITE, np.random.default_rng(k)) for k in range(30)]
    assert np.mean([clip.max() > 100 for clip in made]) > 0.6


def test_some_layers_stand_and_some_move():
    stands = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        made = with_foreground(BLACK, BLACK, rng).astype(int)
        if made.any():
            stands.append(np.abs(made[2] - made[0]).mean() / made[0].mean())
    assert min(stands) == 0
    assert max(stands) > 0.5


def test_some_layers_show_the_other_clip():
    texture = np.random.default_rng(1).integers(0, 256, BLACK.shape, np.uint8)
    rough = [
        with_foreground(BLACK, texture, np.random.default_rng(k)).std(axis=3).mean()
        for k in range(20)
    ]
    plain = [
        with_foreground(BLACK, BLACK, np.random.default_rng(k)).std(axis=3).mean()
        for k in range(20)
    ]
    assert sum(a > b + 1 for a, b in zip(rough, plain, strict=True)) >= 4
