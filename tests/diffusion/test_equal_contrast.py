"""Contrast of frames between: as strong as the ends', never less than it was."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legato.diffusion.equal_contrast import STRONGEST, _amplitude, _fine, equal_contrast


def latents(seed, frames=5, rows=16, columns=24):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, frames, 4, rows, columns, generator=generator)


def ends_of(clip):
    return clip[:, [0, -1]]


@given(seed=st.integers(0, 99), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_what_stands_still_stays_as_it_is(seed, rows, columns):
    still = latents(seed, 1, rows, columns).expand(-1, 5, -1, -1, -1)
    torch.testing.assert_close(equal_contrast(still, ends_of(still)), still, atol=1e-5, rtol=0)


@given(seed=st.integers(0, 99), left=st.floats(0.7, 1.0))
def test_detail_that_was_lost_in_between_is_as_strong_again(seed, left):
    clip = latents(seed)
    ends = ends_of(clip)
    soft = clip - (1 - left) * _fine(clip)
    soft[:, [0, -1]] = ends
    raised = equal_contrast(soft, ends)
    first, last = _amplitude(_fine(ends)).unbind(1)
    before, after = _amplitude(_fine(soft)), _amplitude(_fine(raised))
    assert (after >= before - 1e-4).all()
    for k in (1, 2, 3):
        wanted = torch.maximum(torch.lerp(first, last, k / 4), before[:, k])
        assert (after[:, k] / wanted).sub(1).abs().max() < 0.06  # its mean has fine detail, too
    torch.testing.assert_close(raised[:, [0, -1]], ends, atol=1e-5, rtol=0)


def test_what_was_hardly_drawn_is_not_blown_up():
    clip = latents(3)
    faint = 0.1 * clip
    faint[:, [0, -1]] = clip[:, [0, -1]]
    raised = equal_contrast(faint, ends_of(clip))
    wanted = faint + (STRONGEST - 1) * _fine(faint)
    torch.testing.assert_close(raised[:, 1:-1], wanted[:, 1:-1])


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_flat_frames_stay_finite_and_flat(value):
    flat = torch.full((1, 5, 4, 8, 8), value)
    torch.testing.assert_close(equal_contrast(flat, ends_of(flat)), flat)
