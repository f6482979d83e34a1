"""Convolutions of 8-bit integers: near those in float32, and every frame by itself."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from legato.device import largest_int8_weight
from legato.models.int8_conv import Int8Conv, quantised, use_int8_convs_

LARGEST = largest_int8_weight()
needs_integers = pytest.mark.skipif(
    LARGEST == 0, reason="this CPU multiplies 8-bit integers no faster than float32"
)
PAIRS_IN_16_BITS = """
import torch
from legato.models.int8_conv import Int8Conv
conv = torch.nn.Conv2d(64, 8, 3, padding=1, bias=False).requires_grad_(False)
conv.weight.fill_(1.0)
x = torch.ones(1, 64, 5, 6)
for largest in (63, 127):
    print(torch.allclose(Int8Conv(conv, largest)(x), conv(x)))
"""


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


@needs_integers
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("biased", [True, False])
@torch.no_grad()
def test_it_is_near_the_convolution_in_float32(stride, biased):
    torch.manual_seed(1)
    conv = nn.Conv2d(40, 24, 3, stride=stride, padding=1, bias=biased)
    x = frames_of(40, 3)
    found = Int8Conv(conv, LARGEST)(x)
    assert found.shape == conv(x).shape
    assert signal_to_noise(found, conv(x)) > 36
    edge = signal_to_noise(found[..., 0, :], conv(x)[..., 0, :])
    assert edge > 34, "the zeros beyond the picture are not zero"


@needs_integers
@torch.no_grad()
def test_a_frame_never_depends_on_those_it_is_computed_with():
    x = frames_of(32, 3) * torch.tensor([1.0, 50.0, 0.02]).view(3, 1, 1, 1)
    conv = Int8Conv(nn.Conv2d(32, 32, 3, padding=1), LARGEST)
    together, alone = conv(x), torch.cat([conv(x[k : k + 1]) for k in range(3)])
    assert torch.equal(together, alone)


@needs_integers
@torch.no_grad()
def test_the_largest_sums_are_not_cut_off():
    conv = nn.Conv2d(64, 8, 3, padding=1, bias=False)
    conv.weight.fill_(1.0)
    x = torch.ones(1, 64, 5, 6)
    torch.testing.assert_close(Int8Conv(conv, LARGEST)(x), conv(x))


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx2", False), reason="needs a CPU with AVX2"
)
def test_half_as_large_weights_are_not_cut_off_without_vnni():
    """oneDNN can be told to use AVX2 alone; so this fails where all weights may be used there."""
    found = subprocess.run(
        [sys.executable, "-c", PAIRS_IN_16_BITS],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["True", "False"]


@needs_integers
@torch.no_grad()
def test_an_empty_picture_gives_the_bias():
    conv = nn.Conv2d(32, 8, 3, padding=1)
    found = Int8Conv(conv, LARGEST)(torch.zeros(1, 32, 4, 5))
    torch.testing.assert_close(found, conv.bias.view(1, 8, 1, 1).expand(1, 8, 4, 5))


@needs_integers
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@torch.no_grad()
def test_what_is_not_finite_is_not_hidden(broken):
    x = frames_of(32)
    x[0, 3, 5, 7] = broken
    found = Int8Conv(nn.Conv2d(32, 8, 3, padding=1), LARGEST)(x)
    assert not found.isfinite().all()


@needs_integers
@torch.no_grad()
def test_a_channel_without_weights_stays_empty():
    conv = nn.Conv2d(32, 2, 3, padding=1, bias=False)
    conv.weight[0] = 0
    found = Int8Conv(conv, LARGEST)(frames_of(32))
    assert not found[0, 0].any()
    assert found[0, 1].any()


@needs_integers
@torch.no_grad()
def test_wide_convolutions_of_three_by_three_change_and_weights_stay():
    wide, narrow = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(4, 32, 3, padding=1)
    pointwise = nn.Conv2d(32, 32, 1)
    network = nn.Sequential(narrow, wide, pointwise).requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 4, 9, 9), np.float32))
    expected = network(x)
    use_int8_convs_(network, LARGEST)
    assert [("forward" in vars(layer)) for layer in network] == [False, True, False]
    assert signal_to_noise(network(x), expected) > 36
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
