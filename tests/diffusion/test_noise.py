"""Noise depends on seed, purpose and time only."""

import pytest
import torch

from legato.diffusion.noise import NoisePrior, frame_noise
from legato.errors import InputError


def noise(ticks, *, seed=0, purpose="latents"):
    return frame_noise((4, 6, 5), seed=seed, purpose=purpose, ticks=ticks)


def test_a_part_gets_the_noise_of_the_whole():
    assert torch.equal(noise([512, 1024, 1536])[1:], noise([1024, 1536]))


def test_other_times_seeds_and_purposes_give_other_noise():
    reference = noise([7])
    for other in (noise([8]), noise([7], seed=1), noise([7], purpose="low_res"), noise([-7])):
        assert abs(torch.corrcoef(torch.stack((reference, other)).flatten(1))[0, 1]) < 0.35


def test_it_is_standard_normal():
    values = frame_noise((3, 100, 100), seed=5, purpose="x", ticks=range(4))
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    noise([1, 2, 3])
    assert torch.equal(torch.get_rng_state(), before)


def test_large_times_and_seeds_work():
    assert noise([2**62], seed=2**63 - 1).shape == (1, 4, 6, 5)


def test_no_frames_give_no_noise():
    assert noise([]).shape == (0, 4, 6, 5)


@pytest.mark.parametrize("kind", ["mixed", "progressive"])
@pytest.mark.parametrize("drawn", ["by frame", "by clip"])
def test_correlated_noise_is_normal_and_correlates_as_the_paper_says(kind, drawn):
    prior, count = NoisePrior(kind=kind, strength=2.0), (100, 100)
    if drawn == "by frame":
        noise = frame_noise(count, seed=1, purpose="a", ticks=range(3), prior=prior)
    else:
        noise = prior.join(torch.randn(1, 3, *count), torch.randn(1, 1, *count))[0]
    flat = noise.flatten(1)
    torch.testing.assert_close(flat.std(dim=1), torch.ones(3), atol=0.04, rtol=0)
    found = torch.corrcoef(flat)
    near, far = {"mixed": (0.8, 0.8), "progressive": (0.894, 0.8)}[kind]
    assert abs(found[0, 1] - near) < 0.03
    assert abs(found[0, 2] - far) < 0.03


@pytest.mark.parametrize("kind", ["mixed", "progressive"])
def test_correlated_noise_depends_on_the_frame_alone(kind):
    prior = NoisePrior(kind=kind)
    whole = frame_noise((2, 3), seed=1, purpose="a", ticks=range(9), prior=prior)
    part = frame_noise((2, 3), seed=1, purpose="a", ticks=[7, 8], prior=prior)
    assert torch.equal(whole[7:], part)
    assert not torch.equal(part, frame_noise((2, 3), seed=1, purpose="a", ticks=[7, 8]))


@pytest.mark.parametrize("values", [{"kind": "pink"}, {"strength": -1.0}])
def test_a_prior_that_is_none_is_refused(values):
    with pytest.raises(InputError, match="noise prior"):
        NoisePrior(**values)
