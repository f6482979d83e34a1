"""Noise depends on seed, purpose and time only."""

import torch

from legato.diffusion.noise import frame_noise


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
