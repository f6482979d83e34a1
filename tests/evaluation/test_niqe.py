import cv2
import numpy as np
import pytest

from legato.errors import InputError, ModelError
from legato.evaluation.niqe import MODEL_FILE, NaturalModel, _asymmetric_gaussian
from legato.video.read import read_frames


@pytest.fixture(scope="module")
def photograph(shared):
    frame = next(iter(read_frames(shared / "data" / "test_pairs" / "02_juggle.mp4")))
    return frame.pixels


@pytest.fixture(scope="module")
def model():
    return NaturalModel.load()


def noisy(picture, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


def test_noise_raises_it(model, photograph):
    scores = [model.distance(noisy(photograph, sigma)) for sigma in (0, 5, 15, 30)]
    assert scores == sorted(scores)
    assert scores[0] < 3


def test_blur_raises_it(model, photograph):
    blurred = [photograph, *(cv2.GaussianBlur(photograph, (0, 0), s) for s in (0.8, 1.6))]
    scores = [model.distance(picture) for picture in blurred]
    assert scores == sorted(scores)


def test_brightness_hardly_matters(model, photograph):
    assert model.distance(photograph // 2 + 40) == pytest.approx(
        model.distance(photograph), abs=0.7
    )


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0])
def test_shape_and_scale_of_known_distributions_are_found(shape):
    rng = np.random.default_rng(0)
    magnitude = rng.gamma(1 / shape, size=(2, 60_000)) ** (1 / shape)
    samples = 3 * magnitude * rng.choice([-1, 1], magnitude.shape)
    found, left, right, mean = _asymmetric_gaussian(samples)
    assert found == pytest.approx(shape, rel=0.04)
    assert left == pytest.approx(3, rel=0.06)
    assert right == pytest.approx(3, rel=0.06)
    assert mean == pytest.approx(0, abs=0.1)


def test_asymmetry_is_found():
    samples = np.abs(np.random.default_rng(0).normal(size=(1, 60_000)))
    samples[:, ::2] *= -2
    _, left, right, mean = _asymmetric_gaussian(samples)
    assert left / right == pytest.approx(2, rel=0.03)
    assert mean < 0


def test_a_model_is_at_home_where_it_was_fitted(photograph, tmp_path):
    fitted = NaturalModel.fit(photograph[k:, 2 * k :] for k in range(0, 96, 12))
    fitted.save(tmp_path / "model.safetensors")
    again = NaturalModel.load(tmp_path / "model.safetensors")
    assert np.array_equal(again.covariance, fitted.covariance)
    assert again.distance(photograph) < again.distance(noisy(photograph, 15))


def test_the_model_that_comes_along_is_small_and_whole(model):
    assert MODEL_FILE.stat().st_size < 50_000
    assert (model.mean.shape, model.covariance.shape) == ((36,), (36, 36))
    assert np.linalg.eigvalsh(model.covariance).min() > 0


@pytest.mark.parametrize(
    "picture", [np.zeros((90, 400, 3), np.uint8), np.zeros((200, 200, 3), np.uint8)]
)
def test_small_and_flat_pictures_are_refused(model, picture):
    with pytest.raises(InputError, match="NIQE of 0 patches"):
        model.distance(picture)


def test_a_damaged_model_is_refused(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="NIQE model"):
        NaturalModel.load(tmp_path / "m.safetensors")
