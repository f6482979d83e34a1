"""The edit that leads estimates to expected frames: so far, and only while noise is strong."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from legato.diffusion.denoiser import Step
from legato.diffusion.expected_motion import ExpectedMotion

X0, EXPECTED = torch.randn(2, 1, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
EVERYWHERE = torch.ones(1, 3, 1, 2, 2)


@given(steps=st.integers(1, 40), tenths=st.integers(0, 10), weight=st.floats(0, 1))
def test_it_acts_in_its_share_of_the_steps(steps, tenths, weight):
    edit = ExpectedMotion(expected=EXPECTED, weight=weight * EVERYWHERE, share=tenths / 10)
    for index in range(steps):
        made = edit(Step(index=index, num_steps=steps, timestep=1), X0)
        wanted = X0 + weight * (EXPECTED - X0) if 10 * index < tenths * steps else X0
        torch.testing.assert_close(made, wanted)


def test_the_whole_weight_puts_what_is_expected_in_the_estimates_place():
    edit = ExpectedMotion(expected=EXPECTED, weight=EVERYWHERE, share=1.0)
    torch.testing.assert_close(edit(Step(index=0, num_steps=1, timestep=1), X0), EXPECTED)


def test_where_nothing_is_expected_the_estimate_stays():
    weight = EVERYWHERE.clone()
    weight[:, 1, :, 0] = 0
    made = ExpectedMotion(expected=EXPECTED, weight=weight, share=1.0)(
        Step(index=0, num_steps=1, timestep=1), X0
    )
    assert torch.equal(made[:, 1, :, 0], X0[:, 1, :, 0])
    assert not torch.isclose(made[:, 2], X0[:, 2]).any()
