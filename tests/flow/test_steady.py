"""Steady motion: a shift goes on, what comes nearer grows by the same factor, rest is rest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from legato.flow.dis import DisFlow
from legato.flow.ego_motion import Plane
from legato.flow.steady import LEAST_SIDE, steady_frames

SIDE = LEAST_SIDE + 8


def smooth(rows=SIDE, columns=SIDE, channels=3):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, rows // 8, columns // 8, generator=generator) * 2 - 1
    return F.interpolate(coarse, size=(rows, columns), mode="bicubic").clamp(-1, 1)


class Known:
    """An estimator that knows the backward flow."""

    def __init__(self, backward):
        self.backward = backward

    def __call__(self, frames):
        return -self.backward, self.backward


@settings(max_examples=20)
@given(dx=st.integers(-4, 4), dy=st.integers(-4, 4), count=st.integers(0, 4))
def test_a_shift_goes_on(dx, dy, count):
    picture = smooth()
    backward = torch.tensor([dx, dy]).float().view(1, 2, 1, 1).expand(1, 2, SIDE, SIDE)
    made, seen = steady_frames(torch.cat((picture, picture)), count, Known(backward), Plane())
    assert len(made) == len(seen) == count
    inner = slice(20, -20)
    for k, frame in enumerate(made, start=1):
        wanted = torch.roll(picture[0], (-k * dy, -k * dx), dims=(1, 2))
        torch.testing.assert_close(
            frame[:, inner, inner], wanted[:, inner, inner], atol=2e-3, rtol=0
        )
        fresh = (SIDE - k * abs(dy)) * (SIDE - k * abs(dx)) / SIDE**2
        assert float(seen[k - 1].mean()) == pytest.approx(fresh, abs=0.01)


def test_what_comes_nearer_grows_by_the_same_factor():
    rows = torch.arange(SIDE).float() - (SIDE - 1) / 2
    ramp = rows.expand(SIDE, SIDE) / SIDE
    picture = torch.stack((ramp, ramp.T, ramp))[None]
    away = torch.stack(torch.meshgrid(rows, rows, indexing="xy"))
    made, seen = steady_frames(
        torch.cat((picture, picture)), 3, Known((1 / 1.1 - 1) * away[None]), Plane()
    )
    assert seen.min() > 0.999
    for k, frame in enumerate(made, start=1):
        torch.testing.assert_close(frame, picture[0] / 1.1**k, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(LEAST_SIDE, LEAST_SIDE), (64, 128), (16, 24)])
def test_what_rests_stays(shape):
    still = smooth(*shape)
    made, _ = steady_frames(torch.cat((still, still)), 3, DisFlow(), Plane())
    assert made.shape == (3, 3, *shape)
    torch.testing.assert_close(made, still.expand(3, -1, -1, -1), atol=0.1, rtol=0)


def test_real_flow_foretells_better_than_holding_the_last_frame():
    wide = smooth(64, 160)
    clip = torch.cat([wide[..., 2 * k : 2 * k + 128] for k in range(6)])
    made, _ = steady_frames(clip[:2], 4, DisFlow(), Plane())
    inner = (..., slice(8, -8), slice(16, -16))
    error, held = ((x[inner] - clip[2:][inner]).abs().mean() for x in (made, clip[1:2]))
    assert error < held / 4
