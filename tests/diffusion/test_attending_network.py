"""Frames read from each other inside the block only."""

import pytest
import torch
from tiny import TEXT_WIDTH, tiny_unet
from tiny_image_model import U_NET

from legato.diffusion.attending_network import AttendingNetwork
from legato.models.attention_sites import find_self_attentions
from legato.models.cross_frame_attention import NearestTokens, first_frame
from legato.models.inflate import inflate

FRAMES = 3


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.fixture(scope="module")
def model():
    return inflate(tiny_unet(**U_NET), "image")


def attending(model, attention):
    sites = find_self_attentions(model.spatial, cell=4)
    return AttendingNetwork(
        network=model,
        unet=model.spatial,
        attention=attention,
        sites=sites,
        num_frames=FRAMES,
        timesteps=[700, 300],
    )


def call(network, timestep=700):
    with torch.no_grad():
        return network(
            draw(1, FRAMES, 4, 8, 8), torch.tensor([timestep]), draw(1, 4, TEXT_WIDTH), None
        )


def test_the_first_frame_reads_as_before_and_the_others_do_not(model):
    plain, network = call(model), attending(model, first_frame)
    with network.attached():
        held = call(network)
        assert torch.equal(call(model), plain)  # other calls are left alone
    assert torch.allclose(held[:, 0], plain[:, 0], atol=1e-5)
    assert not torch.allclose(held[:, 1], plain[:, 1], atol=1e-4)
    assert torch.equal(call(model), plain)


def test_the_attention_is_told_the_step(model):
    seen = []

    def watch(tokens, state):
        seen.append((state.step, state.num_frames))
        return first_frame(tokens, state)

    network = attending(model, watch)
    with network.attached():
        call(network, 700)
        call(network, 300)
    assert set(seen) == {(0, FRAMES), (1, FRAMES)}


def test_nearest_tokens_run(model):
    network = attending(model, NearestTokens(chunk=2, seed=1))
    with network.attached():
        assert torch.isfinite(call(network)).all()
