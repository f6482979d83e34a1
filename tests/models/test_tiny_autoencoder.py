"""The embedded autoencoder: exact sizes, temporal layers that start as nothing, local in time."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from legato.models.tiny_autoencoder import (
    Beside,
    TemporalResidual,
    TinyAutoencoder,
    TinyAutoencoderConfig,
    bicubic,
)

CONFIG = TinyAutoencoderConfig(
    width=32, num_blocks=3, num_temporal=2, encoder_width=32, encoder_blocks=1
)


def clip(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_sizes_are_four_times_the_latents():
    model = TinyAutoencoder(CONFIG)
    latents = model.encode(clip(2, 3, 3, 20, 28))
    assert latents.shape == (2, 3, 4, 5, 7)
    assert model.decode(latents, clip(2, 3, 3, 5, 7)).shape == (2, 3, 3, 20, 28)


def test_fresh_temporal_convolutions_change_nothing():
    model = TinyAutoencoder(CONFIG)
    latents, low_res = clip(1, 4, 4, 6, 6), clip(1, 4, 3, 6, 6, seed=1)
    on = model.decode(latents, low_res, temporal=True)
    assert torch.equal(on, model.decode(latents, low_res, temporal=False))


def test_trained_temporal_convolutions_reach_as_far_as_they_say():
    model = TinyAutoencoder(CONFIG)
    for temporal in model.decoder.temporal:
        torch.nn.init.normal_(temporal.conv.weight, std=0.2)
    latents, low_res = clip(1, 7, 4, 6, 6), clip(1, 7, 3, 6, 6, seed=1)
    changed = latents.clone()
    changed[:, 0] += 1
    difference = model.decode(changed, low_res) - model.decode(latents, low_res)
    reached = difference.abs().amax(dim=(0, 2, 3, 4)) > 0
    assert reached.tolist() == [True] * (1 + model.decoder.receptive_frames) + [False] * 4


def test_the_temporal_convolution_equals_a_conv3d():
    model = TinyAutoencoder(CONFIG)
    layer = model.decoder.temporal[0]
    torch.nn.init.normal_(layer.conv.weight)
    x = clip(6, 32, 5, 4)
    expected = torch.nn.functional.conv3d(
        torch.nn.functional.silu(x).view(2, 3, 32, 5, 4).transpose(1, 2),
        layer.conv.weight[..., None],
        layer.conv.bias,
        padding=(1, 0, 0),
    )
    expected = x + expected.transpose(1, 2).reshape(6, 32, 5, 4)
    torch.testing.assert_close(layer(x, 3, None), expected, atol=1e-4, rtol=1e-4)


def test_temporal_convolutions_follow_the_motion():
    """A clip that slides gives what the clip at rest gives, slid, where neighbours show it too."""
    layer = TemporalResidual(8)
    torch.nn.init.normal_(layer.conv.weight)
    still = clip(1, 8, 9, 20).expand(3, -1, -1, -1)
    slid = torch.stack([still[0, :, :, 2 * t : 2 * t + 12] for t in range(3)])
    motion = torch.zeros(3, 6, 9, 12)
    motion[:, 0], motion[:, 3] = 2, -2
    motion[:, [2, 5]] = 1
    found = layer(slid, 3, Beside.of(motion))
    expected = layer(still, 3, None)
    torch.testing.assert_close(found[1, ..., 2:-2], expected[1, ..., 4:12], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(layer(slid, 3, None)[1, ..., 2:-2], expected[1, ..., 4:12], atol=0.1)


def test_untrusted_motion_brings_nothing():
    layer = TemporalResidual(8)
    torch.nn.init.normal_(layer.conv.weight)
    x = clip(3, 8, 5, 6)
    alone = torch.cat([layer(frame, 1, None) for frame in x.split(1)])
    motion = clip(3, 6, 5, 6, seed=1)
    motion[:, [2, 5]] = 0
    torch.testing.assert_close(layer(x, 3, Beside.of(motion)), alone)


def test_config_round_trip():
    model = TinyAutoencoder(CONFIG)
    assert TinyAutoencoder.from_config(model.to_config()).config == CONFIG


def test_a_deeper_decoder_begins_as_the_shallower_one():
    shallow = TinyAutoencoder(replace(CONFIG, scaling_factor=0.7))
    deep = TinyAutoencoder(replace(CONFIG, num_blocks=5))
    deep.begin_from_(shallow)
    latents, low_res = clip(1, 2, 4, 6, 6), clip(1, 2, 3, 6, 6, seed=1)
    assert torch.equal(deep.decode(latents, low_res), shallow.decode(latents, low_res))
    assert deep.config == replace(CONFIG, num_blocks=5, scaling_factor=0.7)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 9)], ids=str)
def test_the_bicubic_skip_is_that_of_torch(size):
    frames = clip(2, 3, *size).requires_grad_()
    expected = F.interpolate(frames, scale_factor=4, mode="bicubic")
    assert torch.equal(bicubic(frames), expected)  # with gradients it is torch's own
    torch.testing.assert_close(bicubic(frames.detach()), expected, atol=1e-5, rtol=0)
