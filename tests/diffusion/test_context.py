"""Which frames are given, and what the network sees of them."""

import pytest
import torch

from legato.diffusion.context import (
    ContextOptions,
    context_condition,
    every_fourth,
    first_frames,
    linear_blend,
    sample_counts,
)
from legato.errors import InputError


def test_given_frames_stand_there_with_a_mask_and_others_are_zero():
    latents = torch.randn(2, 4, 3, 2, 2)
    latents[1, 3] = float("nan")  # what stands at a frame that is not given does not count
    condition = context_condition(latents, first_frames(torch.tensor([0, 2]), 4))
    assert condition.shape == (2, 4, 4, 2, 2)
    assert not condition[0].any()
    assert torch.equal(condition[1, :2, :3], latents[1, :2])
    assert (condition[1, :2, 3] == 1).all()
    assert not condition[1, 2:].any()


def test_an_interpolation_is_given_every_fourth_frame():
    assert every_fourth(9).nonzero().flatten().tolist() == [0, 4, 8]


def test_a_blend_fades_evenly_between_untouched_ends():
    latents = torch.full((1, 5, 1, 1, 1), float("nan"))
    latents[0, 0], latents[0, 4] = 1 / 3, 2.0
    blend = linear_blend(latents).flatten()
    assert blend[0] == latents[0, 0]
    assert blend[4] == latents[0, 4]
    torch.testing.assert_close(blend.diff(), torch.full((4,), (2 - 1 / 3) / 4))


def test_counts_follow_their_shares():
    generator = torch.Generator().manual_seed(0)
    counts = sample_counts(4000, ContextOptions(none=0.1, one=0.3, two=0.6), generator)
    shares = torch.bincount(counts) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.3, 0.6]), atol=0.03, rtol=0)


@pytest.mark.parametrize("shares", [(0.5, 0.4, 0.2), (-0.2, 0.6, 0.6)])
def test_shares_that_are_no_probabilities_are_refused(shares):
    with pytest.raises(InputError, match="shares"):
        ContextOptions(none=shares[0], one=shares[1], two=shares[2])
