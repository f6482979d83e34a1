"""Convolutions of 8-bit integers: near those in float32, and every frame by itself."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from legato.device import multiplies_int8
from legato.models.int8_conv import Int8Conv, quantised, use_int8_convs_

needs_vnni = pytest.mark.skipif(
    not multiplies_int8(), reason="8-bit integers are multiplied on CPUs with VNNI only"
)


def signal_to_noise(found: torch.Tensor, expected: torch.Tensor) -> float:
    error = (found - expected).square().mean() / expected.square().mean()
    return -10 * float(error.log10())


def frames_of(channels: int, count: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    x = nn.functional.silu(torch.randn(count, channels, 12, 20))
    return x.contiguous(memory_format=torch.channels_last)


@given(
    low=st.floats(-100, 0),
    high=st.floats(0.01, 100),
    seed=st.integers(0, 1000),
)
def test_quantising_is_undone_up_to_half_a_step(low, high, seed):
    pixels = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(seed))
    pixels = low + (high - low) * pixels
    step = (high - low) / 255
    zero = round(-low / step)
    whole = quantised(pixels, step, zero)
    assert torch.equal(whole, whole.clamp(0, 255))
    undone = (whole.double() - zero) * step
    assert (undone - pixels.double()).abs().max() <= (0.5 + 0.5 + 1e-3) * step  # value and zero


def test_zero_stays_zero():
    """So that what lies beyond the picture is what the float32 convolution sees there."""
    assert quantised(torch.zeros(1, 1, 1, 2), 0.37, 91).tolist() == [[[[91, 91]]]]


@needs_vnni
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("biased", [True, False])
@torch.no_grad()
def test_it_is_near_the_convolution_in_float32(stride, biased):
    torch.manual_seed(1)
    conv = nn.Conv2d(40, 24, 3, stride=stride, padding=1, bias=biased)
    x = frames_of(40, 3)
    found = Int8Conv(conv)(x)
    assert found.shape == conv(x).shape
    assert signal_to_noise(found, conv(x)) > 36
    edge = signal_to_noise(found[..., 0, :], conv(x)[..., 0, :])
    assert edge > 34, "the zeros beyond the picture are not zero"


@needs_vnni
@torch.no_grad()
def test_a_frame_never_depends_on_those_it_is_computed_with():
    x = frames_of(32, 3) * torch.tensor([1.0, 50.0, 0.02]).view(3, 1, 1, 1)
    conv = Int8Conv(nn.Conv2d(32, 32, 3, padding=1))
    together, alone = conv(x), torch.cat([conv(x[k : k + 1]) for k in range(3)])
    assert torch.equal(together, alone)


@needs_vnni
@torch.no_grad()
def test_the_largest_sums_are_not_cut_off():
    conv = nn.Conv2d(64, 8, 3, padding=1, bias=False)
    conv.weight.fill_(1.0)
    x = torch.ones(1, 64, 5, 6)
    torch.testing.assert_close(Int8Conv(conv)(x), conv(x))


@needs_vnni
@torch.no_grad()
def test_an_empty_picture_gives_the_bias():
    conv = nn.Conv2d(32, 8, 3, padding=1)
    found = Int8Conv(conv)(torch.zeros(1, 32, 4, 5))
    torch.testing.assert_close(found, conv.bias.view(1, 8, 1, 1).expand(1, 8, 4, 5))


@needs_vnni
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@torch.no_grad()
def test_what_is_not_finite_is_not_hidden(broken):
    x = frames_of(32)
    x[0, 3, 5, 7] = broken
    found = Int8Conv(nn.Conv2d(32, 8, 3, padding=1))(x)
    assert not found.isfinite().all()


@needs_vnni
@torch.no_grad()
def test_a_channel_without_weights_stays_empty():
    conv = nn.Conv2d(32, 2, 3, padding=1, bias=False)
    conv.weight[0] = 0
    found = Int8Conv(conv)(frames_of(32))
    assert not found[0, 0].any()
    assert found[0, 1].any()


@needs_vnni
@torch.no_grad()
def test_wide_convolutions_of_three_by_three_change_and_weights_stay():
    wide, narrow = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(4, 32, 3, padding=1)
    pointwise = nn.Conv2d(32, 32, 1)
    network = nn.Sequential(narrow, wide, pointwise).requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 4, 9, 9), np.float32))
    expected = network(x)
    use_int8_convs_(network)
    assert [("forward" in vars(layer)) for layer in network] == [False, True, False]
    assert signal_to_noise(network(x), expected) > 36
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
