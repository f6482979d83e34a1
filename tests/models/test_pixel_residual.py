"""Pixels as latents: exact both ways, with and without the small frames."""

import pytest
import torch
from torch.nn import functional as F

from legato.models.pixel_residual import CHANNELS, PixelResidual


def clip(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("scale", [1.0, 11.5])
def test_what_was_encoded_is_decoded(scale):
    model = PixelResidual()
    model.scale.fill_(scale)
    frames, low_res = clip(2, 3, 3, 16, 24), clip(2, 3, 3, 4, 6, seed=1)
    cells = model.encode(frames, low_res)
    assert cells.shape == (2, 3, CHANNELS, 4, 6)
    torch.testing.assert_close(model.decode(cells, low_res), frames, atol=1e-5, rtol=1e-5)


def test_small_frames_are_the_means_where_none_are_given():
    model = PixelResidual()
    frames = clip(1, 2, 3, 16, 24)
    means = F.avg_pool2d(frames[0], 4)[None]
    assert torch.equal(model.encode(frames), model.encode(frames, means))


def test_nothing_beyond_the_small_frames_is_their_bicubic_copy():
    low_res = clip(1, 2, 3, 5, 7)
    made = PixelResidual().decode(torch.zeros(1, 2, CHANNELS, 5, 7), low_res)
    expected = F.interpolate(low_res[0], scale_factor=4, mode="bicubic")[None]
    torch.testing.assert_close(made, expected, atol=2e-3, rtol=0)


def test_half_precision_keeps_the_small_frames_in_full():
    low_res = clip(1, 1, 3, 4, 4)
    cells = torch.zeros(1, 1, CHANNELS, 4, 4, dtype=torch.bfloat16)
    assert PixelResidual().decode(cells, low_res.bfloat16()).dtype == torch.float32


def test_it_can_be_stored():
    model = PixelResidual()
    assert set(model.state_dict()) == {"scale"}
    assert isinstance(PixelResidual.from_config(model.to_config()), PixelResidual)
