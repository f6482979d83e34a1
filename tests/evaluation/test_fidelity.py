import math

import numpy as np
import pytest
import torch
from skimage import metrics

from legato.errors import InputError
from legato.evaluation.fidelity import IDENTICAL_DB, perceptual, psnr, require_same_shape, ssim


def noise(seed=0, frames=2):
    return np.random.default_rng(seed).integers(0, 256, (frames, 40, 48, 3)).astype(np.uint8)


def test_psnr_of_a_known_error():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    clip = truth.copy()
    clip[0] += 5
    clip[1] += 10
    expected = np.mean([20 * math.log10(255 / 5), 20 * math.log10(255 / 10)])
    assert psnr(clip, truth) == pytest.approx(expected)


def test_identical_clips_have_a_finite_psnr():
    assert psnr(noise(), noise()) == IDENTICAL_DB


def ssim_of_scikit(one, other):
    """Return its mean without the border, and its map, of one grey frame."""
    return metrics.structural_similarity(
        one[0, ..., 0],
        other[0, ..., 0],
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )


def test_ssim_equals_scikit_image():
    rng = np.random.default_rng(1)
    grey = np.repeat(rng.integers(0, 256, (1, 40, 48, 1)).astype(np.uint8), 3, axis=-1)
    other = (grey * 0.7 + 20).astype(np.uint8)
    expected, full = ssim_of_scikit(grey, other)
    assert ssim(grey, other) == pytest.approx(full.mean(), abs=2e-3)
    assert ssim(grey, other) == pytest.approx(expected, abs=2e-2)


def test_ssim_of_faint_contrast_equals_scikit_image():
    """Where the stabilising constants decide."""
    noise = np.random.default_rng(2).integers(0, 8, (2, 40, 48, 1))
    one, other = (np.repeat(plane[None] + 4, 3, axis=-1).astype(np.uint8) for plane in noise)
    _, full = ssim_of_scikit(one, other)
    assert ssim(one, other) == pytest.approx(full.mean(), abs=2e-3)


def test_ssim_of_identical_clips_is_one():
    assert ssim(noise(), noise()) == pytest.approx(1.0)


def test_perceptual_gets_each_frame_in_model_range():
    seen = []

    def distance(a, b):
        seen.append((a, b))
        return torch.tensor([float(len(seen))])

    clip = np.zeros((3, 8, 8, 3), np.uint8)
    assert perceptual(clip, clip + 255, distance) == pytest.approx(2.0)
    assert seen[0][0].shape == (1, 3, 8, 8)
    assert (seen[0][0].unique().tolist(), seen[0][1].unique().tolist()) == ([-1], [1])


def test_clips_of_other_length_are_refused():
    with pytest.raises(InputError, match="same frames"):
        require_same_shape(noise(frames=2), noise(frames=3))


def test_luma_of_video_is_that_of_papers():
    red, black = np.zeros((2, 1, 32, 32, 3), np.uint8)
    red[..., 0] = 255
    assert psnr(red, black, on="y") == pytest.approx(20 * math.log10(255 / 65.481))
    assert psnr(red, black) == pytest.approx(10 * math.log10(3))


def test_ssim_on_rgb_sees_colours_that_luma_does_not():
    a, b = np.full((2, 1, 32, 32, 3), 100, np.uint8)
    b[..., 0] += 60  # 0.299 * 60 = 18, and 0.587 * 30 = 18
    b[..., 1] -= 31
    assert ssim(a, b) > 0.999 > ssim(a, b, on="rgb")
    assert ssim(a, b, on="y") > 0.999


@pytest.mark.parametrize("on", ["rgb", "luma", "y"])
def test_noise_lowers_every_kind(on):
    clip = np.clip(noise() // 2 + np.random.default_rng(1).normal(0, 9, noise().shape), 0, 255)
    assert ssim(clip.astype(np.uint8), noise() // 2, on=on) < 1
    assert psnr(clip.astype(np.uint8), noise() // 2, on=on) < 40
