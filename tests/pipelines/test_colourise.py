"""Colourising: the input's lightness stays, the translation's colour is taken."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from legato.pipelines.colourise import colourise
from legato.pipelines.lab import to_lab


def clip(rows=24, cols=31, frames=2, spread=0.6):
    small = (torch.rand(frames, 3, 5, 6) * 2 - 1) * spread
    return F.interpolate(small, size=(rows, cols), mode="bilinear")


def lab(frames):
    return np.stack([to_lab(frame.permute(1, 2, 0).numpy() / 2 + 0.5) for frame in frames])


def grey(frames):
    return frames.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def test_lightness_is_the_inputs_even_where_no_screen_shows_the_colour():
    frames, vivid = grey(clip(spread=1)), clip(spread=1)
    found = colourise(vivid, frames)
    assert abs(lab(found)[..., 0] - lab(frames)[..., 0]).max() < 1.5


def test_colour_is_the_translations_where_it_can_be_shown():
    frames = grey(clip(spread=0.1))
    look = frames + torch.tensor([0.1, -0.05, 0.05]).view(1, 3, 1, 1)
    found, wanted = lab(colourise(look, frames)), lab(look)
    assert abs(found[..., 1:] - wanted[..., 1:]).max() < 1


def test_the_input_itself_changes_nothing():
    frames = clip()
    torch.testing.assert_close(colourise(frames, frames), frames, atol=2 / 127.5, rtol=0)


def test_a_colourless_translation_gives_grey():
    found = colourise(grey(clip()), clip())
    assert (found.amax(dim=1) - found.amin(dim=1)).max() < 2 / 127.5


@pytest.mark.parametrize("size", [(1, 1), (7, 9)])
def test_any_size_and_dtype_work(size):
    frames = clip(*size).half()
    assert colourise(frames, frames).dtype == torch.float16
