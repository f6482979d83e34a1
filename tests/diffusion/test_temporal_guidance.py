"""Temporal guidance: from frames on their own to frames of one video, at strong noise only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_generator import tiny_generator_unet

from legato.diffusion.temporal_guidance import TemporalGuided

TEXT = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(3))
Z = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def unet():
    return tiny_generator_unet().requires_grad_(False)


def predicted(network, timestep=500):
    return network(Z, torch.tensor([timestep]), TEXT, None)


def by_image(unet):
    with unet.disabled():
        return predicted(unet)


def test_a_scale_of_one_is_the_network_and_of_zero_the_image_model(unet):
    for scale, wanted in ((1.0, predicted(unet)), (0.0, by_image(unet))):
        guided = TemporalGuided(unet=unet, scale=scale, last_timestep=500)
        assert torch.equal(predicted(guided), wanted)


@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_it_is_linear_between_them_and_beyond(unet, scale):
    guided = predicted(TemporalGuided(unet=unet, scale=scale, last_timestep=0))
    wanted = by_image(unet) + scale * (predicted(unet) - by_image(unet))
    torch.testing.assert_close(guided, wanted)
    assert not torch.allclose(guided, predicted(unet))


def test_below_its_last_timestep_the_image_model_goes_on_alone(unet):
    guided = TemporalGuided(unet=unet, scale=1.5, last_timestep=501)
    assert torch.equal(predicted(guided), by_image(unet))


def test_layers_are_as_before_after_a_call(unet):
    before = predicted(unet)
    predicted(TemporalGuided(unet=unet, scale=1.5, last_timestep=0))
    assert torch.equal(predicted(unet), before)


@given(steps=st.integers(1, 50), tenths=st.integers(0, 10), first=st.sampled_from([999, 980, 500]))
def test_a_share_of_the_steps_is_rounded_up(unet, steps, tenths, first):
    timesteps = [first - k * first // (steps + 1) for k in range(steps)]
    guided = TemporalGuided.in_share(unet, scale=1.0, share=tenths / 10, timesteps=timesteps)
    acts = [timestep >= guided.last_timestep for timestep in timesteps]
    assert sum(acts) == -(-tenths * steps // 10)
    assert acts == sorted(acts, reverse=True)  # the first ones
