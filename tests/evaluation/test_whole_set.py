"""FID, FVD and IS through tiny scripted networks whose answers are known in closed form."""

import json
import warnings

import numpy as np
import pytest
import torch
from judged import truth_clip, worse_clip, write_images
from torch import nn

from legato.errors import InputError, ModelError
from legato.evaluation.evaluate import evaluate
from legato.evaluation.evaluate_options import EvaluateOptions
from legato.evaluation.frechet import distance_of_moments
from legato.evaluation.scripted_network import ScriptedNetwork
from legato.evaluation.whole_set import Moments, SetMeter, as_probabilities, inception_score

CPU = torch.device("cpu")
BRIGHTNESS = (10, 40, 90)
ROUNDING = 1e-4  # roots of a singular covariance: about the root of 1e-16 times its trace of 1000


class Colours(nn.Module):
    """Mean of each channel, of a picture or of a clip."""

    def forward(self, x):
        return x.flatten(2).mean(2)


class Flagged(nn.Module):
    """Says by which flags it was called."""

    def forward(
        self,
        x: torch.Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> torch.Tensor:
        flags = torch.tensor([float(rescale), float(resize), float(return_features)])
        return flags.expand(x.shape[0], 3)


class Mute(nn.Module):
    """Gives one number for all."""

    def forward(self, x):
        return x.mean()


class Picky(nn.Module):
    """Takes seven values only."""

    def forward(self, x):
        return x.flatten(1).matmul(torch.zeros(7, 2))


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is old
        for network in (Colours(), Flagged(), Mute(), Picky()):
            torch.jit.script(network).save(str(folder / f"{type(network).__name__}.pt"))
    return folder


def load(scripts, name, **options):
    return ScriptedNetwork(scripts / f"{name}.pt", "--fid", CPU, **options)


def clip_of(value, num_frames=16):
    return np.full((num_frames, 32, 32, 3), value, np.uint8)


def pairs_of(result, truth):
    return [(clip_of(result)[k], clip_of(truth)[k]) for k in range(16)]


def test_moments_in_batches_are_those_of_all():
    x = np.random.default_rng(0).normal(3, 2, (40, 5)) + 1000
    moments = Moments()
    for batch in np.split(x, [1, 8, 30]):
        moments.add(batch)
    mean, covariance = moments.finish()
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(x, rowvar=False), rtol=1e-9)


def test_the_distance_of_gaussians_that_commute_is_closed():
    """|m - m'|^2 + sum (s - s')^2 over the axes of diagonal covariances."""
    m, m2, s, s2 = np.array([1.0, 2]), np.array([4.0, 6]), np.array([1.0, 3]), np.array([2.0, 5])
    found = distance_of_moments(m, np.diag(s**2), m2, np.diag(s2**2))
    assert found == pytest.approx(25 + 1 + 4)


@pytest.mark.parametrize("parts", [1, 10])
def test_the_inception_score_of_known_sets(parts):
    assert inception_score(np.tile([0.7, 0.2, 0.1], (100, 1)), parts) == pytest.approx(1)
    assert inception_score(np.tile(np.eye(5), (20, 1)), parts) == pytest.approx(5)


def test_logits_become_probabilities_and_these_stay():
    p = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    assert as_probabilities(p) is p
    np.testing.assert_allclose(as_probabilities(np.log(p) + 7), p)


def test_fvd_and_fid_are_of_the_set_in_closed_form(scripts):
    """All clips are grey: three equal features, so it is 3 ((m - m')^2 + (s - s')^2)."""
    network = load(scripts, "Colours")
    meter = SetMeter(fid=network, fvd=network)
    for value in BRIGHTNESS:
        assert len(list(meter.watch(pairs_of(2 * value, value)))) == 16
    figures, notices = meter.finish()
    mean, spread = np.mean(BRIGHTNESS), np.std(BRIGHTNESS, ddof=1)
    assert figures["fvd"].value == pytest.approx(3 * (mean**2 + spread**2))
    spread = np.std(np.repeat(BRIGHTNESS, 16), ddof=1)
    assert figures["fid"].value == pytest.approx(3 * (mean**2 + spread**2))
    assert figures["fvd"].samples == "3 clips against 3"
    assert figures["fid"].samples == "48 frames against 48"
    assert notices == []


def test_equal_sets_have_no_distance_and_few_samples_are_told(scripts):
    network = load(scripts, "Colours")
    meter = SetMeter(fvd=network)
    for value in BRIGHTNESS[:2]:
        list(meter.watch(pairs_of(value, value)))
    figures, notices = meter.finish()
    assert figures["fvd"].value == pytest.approx(0, abs=ROUNDING)
    assert notices[0].startswith("FVD is of 2 clips in 3 dimensions, fewer than a full covariance")


def test_the_first_16_frames_are_the_clip_and_all_are_frames(scripts):
    network = load(scripts, "Colours")
    meter = SetMeter(fid=network, fvd=network)
    for value in BRIGHTNESS[:2]:
        tail = [(clip_of(255)[0], clip_of(value)[0])] * 5
        list(meter.watch(pairs_of(value, value) + tail))
    figures, _ = meter.finish()
    assert figures["fvd"].value == pytest.approx(0, abs=ROUNDING)
    assert figures["fid"].value > 100
    assert figures["fid"].samples == "42 frames against 42"


def test_arguments_of_known_names_are_set(scripts):
    x = torch.zeros(2, 3, 4, 4)
    assert load(scripts, "Flagged")(x).tolist() == [[1, 1, 1]] * 2
    assert load(scripts, "Flagged", features=False)(x).tolist() == [[1, 1, 0]] * 2


def test_wrong_files_are_one_line(scripts, tmp_path):
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    for path in (tmp_path / "bad.pt", tmp_path / "none.pt", tmp_path):
        with pytest.raises(ModelError, match=f"--fvd {path}") as caught:
            ScriptedNetwork(path, "--fvd", CPU)
        assert "\n" not in caught.value.why
    with pytest.raises(ModelError, match="not N x D"):
        load(scripts, "Mute")(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ModelError) as caught:
        load(scripts, "Picky")(torch.zeros(2, 3, 4, 4))
    assert "\n" not in caught.value.why


def test_tables_page_and_values_tell_the_whole_set(scripts, tmp_path):
    for k in range(2):
        truth = truth_clip(seed=k, num_frames=16, size=(48, 32))
        write_images(tmp_path / "t" / f"c{k}", truth)
        write_images(tmp_path / "r" / f"c{k}", worse_clip(truth))
    path = scripts / "Colours.pt"
    options = EvaluateOptions(fid=path, fvd=path, inception_score=path, shown=0)
    found = evaluate(tmp_path / "r", tmp_path / "t", tmp_path / "out", options)
    assert list(found.whole) == ["fid", "fvd", "inception_score"]
    for suffix in ("md", "tex", "html"):
        text = (tmp_path / "out" / f"evaluation.{suffix}").read_text(encoding="utf-8")
        assert f"Whole set: FID {found.whole['fid'].value:.2f}" in text
        assert "Whole set: IS" in text
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert data["whole_set"]["fvd"]["value"] == found.whole["fvd"].value
    alone = EvaluateOptions(inception_score=path, shown=0)
    assert list(evaluate(tmp_path / "r", None, tmp_path / "o", alone).whole) == ["inception_score"]
    with pytest.raises(InputError, match="it takes references"):
        evaluate(tmp_path / "r", None, tmp_path / "o", EvaluateOptions(fvd=path))


def test_what_fvd_cannot_take_is_refused_before_all_work(scripts, tmp_path):
    options = EvaluateOptions(fvd=scripts / "Colours.pt")
    for k in range(2):
        write_images(tmp_path / "r" / f"c{k}", truth_clip(num_frames=3))
    with pytest.raises(InputError, match="clip c0 of 3 frames"):
        evaluate(tmp_path / "r", tmp_path / "r", tmp_path / "out", options)
    with pytest.raises(InputError, match="of 1 clip"):
        evaluate(tmp_path / "r" / "c0", tmp_path / "r" / "c0", tmp_path / "out", options)
    with pytest.raises(InputError, match="frames=8"):
        EvaluateOptions(fvd=scripts / "Colours.pt", frames=8)
