import json

import numpy as np
import pytest
import torch

from legato.errors import ModelError
from legato.evaluation.report import (
    Bar,
    Judge,
    Scores,
    find_distance,
    mean_scores,
    table,
    to_json,
)
from legato.evaluation.vmaf import find_vmaf


def scores(**changes):
    base = {"psnr": 30.0, "ssim": 0.9, "lpips": 0.2, "lattice": 1.0, "warping": 2.0, "flicker": 0.5}
    return Scores(**(base | changes))


def clip(num_frames=3):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    picture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return np.repeat(picture[None], num_frames, axis=0)


def test_the_truth_itself_is_perfect():
    judged = Judge(clip(), lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))(clip())
    assert (judged.psnr, judged.lpips, judged.flicker) == (100.0, 0.0, 0.0)
    assert judged.ssim == pytest.approx(1)
    assert judged.warping < 1e-3
    assert judged.lattice <= 1.0


def test_without_weights_the_column_is_empty():
    assert Judge(clip(), None)(clip()).lpips is None
    assert "| - |" in table({"a": scores(lpips=None)}, "a")


def test_a_weights_file_that_was_named_must_be_there(tmp_path):
    with pytest.raises(ModelError):
        find_distance(tmp_path / "none.safetensors")


def test_vmaf_is_measured_where_there_is_a_program_for_it():
    program, reason = find_vmaf()
    if program is None:
        pytest.skip(reason)
    assert Judge(clip(), None, program)(clip()).vmaf > 95
    assert "| 95.0 |" in table({"a": scores(vmaf=95.0)}, "a")


def test_mean_is_taken_of_every_figure():
    mean = mean_scores([scores(psnr=20.0, lpips=0.1), scores(psnr=30.0, lpips=0.3)])
    assert mean.psnr == pytest.approx(25)
    assert mean.lpips == pytest.approx(0.2)
    assert mean_scores([scores(), scores(lpips=None)]).lpips is None


def test_warping_error_is_shown_relative_to_the_baseline():
    text = table({"bicubic": scores(warping=2.0), "ours": scores(warping=3.0)}, "bicubic")
    assert "| 3.00 | 1.50 |" in text


@pytest.mark.parametrize(
    ("value", "at_least", "passed"),
    [(1.0, False, True), (1.1, False, False), (1.0, True, True), (0.9, True, False)],
)
def test_bars_pass_on_the_right_side(value, at_least, passed):
    bar = Bar(name="x", value=value, limit=1.0, at_least=at_least)
    assert bar.passed is passed
    assert str(bar).startswith("pass" if passed else "FAIL")


def test_scores_are_plain_json():
    assert json.loads(json.dumps(to_json({"a": scores()})))["a"]["lattice"] == 1.0


def test_distance_takes_batches_of_one():
    def distance(a, b):
        assert a.shape == (1, 3, 64, 64)
        return torch.zeros(1)

    assert Judge(clip(), distance)(clip()).lpips == 0
