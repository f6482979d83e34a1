"""Resampling by any factor."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legato.video.resize import resize

SIZES = st.integers(1, 40)


@given(SIZES, SIZES, SIZES, SIZES, st.floats(-1, 1))
def test_a_constant_stays_that_constant_at_any_size(rows, cols, new_rows, new_cols, level):
    frames = torch.full((2, 3, rows, cols), level)
    out = resize(frames, (new_rows, new_cols))
    assert out.shape == (2, 3, new_rows, new_cols)
    torch.testing.assert_close(out, torch.full_like(out, level), atol=1e-5, rtol=0)


def test_the_same_size_is_the_identity():
    frames = torch.randn(1, 3, 7, 9)
    assert resize(frames, (7, 9)) is frames


def test_reducing_removes_what_would_alias():
    stripes = torch.tensor([1.0, -1.0]).repeat(64).expand(1, 3, 128, 128)
    assert resize(stripes, (48, 48)).abs().max() < 0.15


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 3])
def test_a_slow_wave_keeps_its_shape_and_place(factor):
    size = round(96 * factor)

    def wave(n):
        centres = (torch.arange(n) + 0.5) / n
        return torch.sin(2 * math.pi * 3 * centres).expand(1, 1, n, n)

    out = resize(wave(96), (size, size))
    inner = slice(6, -6)
    torch.testing.assert_close(
        out[..., inner, inner], wave(size)[..., inner, inner], atol=0.02, rtol=0
    )
