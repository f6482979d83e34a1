"""What a ControlNet is shown: outlines, depth, or frames that were made elsewhere."""

import numpy as np
import pytest
import torch
from clips import write_clip
from tiny_depth import tiny_depth

from legato.errors import InputError, ModelError
from legato.pipelines.hints import GivenHints, open_hints, outlines
from legato.video.probe import probe

CPU = torch.device("cpu")
NUMBERS = np.arange(6, dtype=np.uint8)[:, None, None, None] * 40


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Hints whose n-th frame is all 40 n."""
    path = tmp_path_factory.mktemp("hints") / "edges.mkv"
    write_clip(path, np.broadcast_to(NUMBERS, (6, 24, 32, 3)).copy(), sound=False)
    return path


def test_outlines_are_white_on_black():
    frames = -torch.ones(1, 3, 16, 16)
    frames[..., 8:] = 1
    maps = outlines(frames)
    assert maps.shape == frames.shape
    assert set(maps.unique().tolist()) == {0.0, 1.0}


def test_given_hints_are_those_of_the_frames_in_any_order(given):
    hints = GivenHints(given)
    for indices in ((0, 3, 5), (0, 5, 4), (1, 1)):
        maps = hints(torch.zeros(len(indices), 3, 12, 16), indices)
        assert maps.shape == (len(indices), 3, 12, 16)
        levels = maps.mean(dim=(1, 2, 3)) * 255
        assert torch.allclose(levels, 40.0 * torch.tensor(indices), atol=3)


def test_hints_of_another_number_or_shape_are_refused(given, clip):
    hints = GivenHints(given)
    hints.require_fitting(probe(clip(frames=6, size=(64, 48))), 6)
    with pytest.raises(InputError, match="has 6 frames: 5 are translated"):
        hints.require_fitting(probe(given), 5)
    with pytest.raises(InputError, match="another shape"):
        hints.require_fitting(probe(clip(frames=6, size=(48, 64), name="high.mkv")), 6)


def test_depth_comes_from_the_named_model(tmp_path):
    hints = open_hints(None, str(tiny_depth(tmp_path / "dpt")), CPU)
    frames = torch.rand(2, 3, 16, 24) * 2 - 1
    maps = hints(frames, (0, 1))
    assert maps.shape == frames.shape
    assert torch.equal(maps[:, 0], maps[:, 2])
    assert torch.equal(hints(frames[1:], (1,)), maps[1:])


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.mp4"):
        open_hints(tmp_path / "nowhere.mp4", None, CPU)
    with pytest.raises(ModelError, match="nowhere"):
        open_hints(None, str(tmp_path / "nowhere"), CPU)
