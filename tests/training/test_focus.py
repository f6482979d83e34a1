"""Places out of focus: smoother than before, the same in all frames, the rest as it was."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from legato.training.focus import out_of_focus

CLIP = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)


@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_gets_rougher_and_brightness_stays(seed):
    made = out_of_focus(CLIP, np.random.default_rng(seed))
    assert made.shape == CLIP.shape
    assert made.std() < CLIP.std()
    assert abs(made.mean() - CLIP.mean()) < 2


@given(seed=st.integers(0, 2**32 - 1))
def test_a_standing_clip_stays_standing(seed):
    still = np.repeat(CLIP[:1], 3, axis=0)
    made = out_of_focus(still, np.random.default_rng(seed))
    assert np.array_equal(made, np.repeat(made[:1], 3, axis=0))


@given(seed=st.integers(0, 2**32 - 1), level=st.integers(0, 255))
def test_a_flat_clip_stays_as_it_is(seed, level):
    flat = np.full((2, 32, 32, 3), level, np.uint8)
    assert np.abs(out_of_focus(flat, np.random.default_rng(seed)).astype(int) - level).max() <= 1


def test_some_clips_are_sharp_in_part():
    drawn = [out_of_focus(CLIP, np.random.default_rng(k)) for k in range(40)]
    kept = [float((clip == CLIP).all(axis=(0, 3)).mean()) for clip in drawn]
    assert max(kept) < 0.85  # no clip stays as it was
    assert sum(share > 0.2 for share in kept) > 5
    assert sum(share < 0.05 for share in kept) > 5
