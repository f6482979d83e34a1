"""Pictures judged by a package that need not be there."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from judged import truth_clip, worse_clip, write_images

from legato.errors import InputError, ResourceError
from legato.evaluation.evaluate import evaluate
from legato.evaluation.evaluate_options import EvaluateOptions
from legato.evaluation.picture_judges import load_judge


@pytest.fixture
def package(monkeypatch):
    """Put a package in the place of pyiqa whose figure is the mean of the picture."""
    module = ModuleType("pyiqa")

    def create_metric(name, device):
        return lambda picture: picture.mean() * (100 if name == "musiq" else 1)

    module.create_metric = create_metric
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    return module


def test_pictures_reach_the_package_in_its_range(package):
    judge = load_judge("clipiqa", torch.device("cpu"))
    assert judge(np.full((32, 40, 3), 51, np.uint8)) == pytest.approx(0.2)


def test_a_clip_without_references_is_judged(package, tmp_path):
    clip = truth_clip(num_frames=3)
    write_images(tmp_path / "clip", clip)
    options = EvaluateOptions(iqa="musiq, clipiqa")
    found = evaluate(tmp_path / "clip", out=tmp_path / "out", options=options)
    assert found.means["musiq"] == pytest.approx(100 * clip.mean() / 255, rel=1e-4)
    assert found.means["clipiqa"] == pytest.approx(clip.mean() / 255, rel=1e-4)


def test_without_the_package_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ResourceError, match="pyiqa cannot be imported"):
        load_judge("musiq", torch.device("cpu"))


def test_weights_that_cannot_be_fetched_are_told(package):
    def offline(name, device):
        raise ConnectionError("no route")

    package.create_metric = offline
    with pytest.raises(ResourceError, match="no route"):
        load_judge("musiq", torch.device("cpu"))


def test_an_unknown_judge_is_told_the_known_ones():
    with pytest.raises(InputError, match="musiq, clipiqa"):
        EvaluateOptions(iqa="dover")


def test_figures_that_do_not_apply_are_refused(tmp_path):
    write_images(tmp_path / "r", worse_clip(truth_clip()))
    write_images(tmp_path / "t", truth_clip())
    with pytest.raises(InputError, match="without references"):
        evaluate(tmp_path / "r", tmp_path / "t", tmp_path / "o", EvaluateOptions(iqa="musiq"))
    with pytest.raises(InputError, match="references to compare"):
        evaluate(
            tmp_path / "r", out=tmp_path / "o", options=EvaluateOptions(dists=tmp_path / "w.pth")
        )
