"""Depth from a model that the user names: nearness from 0 to 1, frame by frame."""

import pytest
import torch
from tiny_captioner import tiny_captioner
from tiny_depth import tiny_depth

from legato.errors import ModelError
from legato.models.depth import DepthEstimator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_depth(tmp_path_factory.mktemp("depth") / "dpt")


@pytest.fixture(scope="module")
def frames():
    return torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_nearest_is_1_and_the_farthest_0(folder, frames):
    found = DepthEstimator(str(folder), CPU)(frames)
    assert found.shape == (2, 24, 40)
    assert found.amin(dim=(1, 2)).tolist() == [0, 0]
    assert found.amax(dim=(1, 2)).tolist() == [1, 1]


def test_a_frame_is_seen_without_its_neighbours(folder, frames):
    estimate = DepthEstimator(str(folder), CPU)
    assert torch.equal(estimate(frames)[1:], estimate(frames[1:]))


def test_distances_are_turned_into_nearness(folder, frames, tmp_path):
    metric = DepthEstimator(str(tiny_depth(tmp_path / "m", depth_estimation_type="metric")), CPU)
    nearness = DepthEstimator(str(folder), CPU)
    assert metric.is_metric
    assert not nearness.is_metric
    nearest, farthest = metric(frames).flatten(1).argmax(1), nearness(frames).flatten(1).argmin(1)
    assert torch.equal(nearest, farthest)


def test_a_flat_depth_has_nothing_near(folder, frames):
    estimate = DepthEstimator(str(folder), CPU)
    for parameter in estimate._model.head.parameters():
        parameter.data.zero_()
    assert (estimate(frames) == 0).all()


def test_what_is_no_depth_model_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tiny_captioner(tmp_path / "caption", ["day"])):
        with pytest.raises(ModelError, match="cannot be loaded"):
            DepthEstimator(str(path), CPU)


def test_a_model_without_its_head_is_refused(folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    root = shutil.copytree(folder, tmp_path / "torso")
    state = load_file(root / "model.safetensors")
    kept = {key: value for key, value in state.items() if not key.startswith("head")}
    save_file(kept, root / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not whole"):
        DepthEstimator(str(root), CPU)
