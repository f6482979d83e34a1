import math
from itertools import pairwise

import numpy as np
import pytest

from legato.errors import InputError
from legato.training.blur import Blur, BlurStep
from legato.training.corruptions import FitStep, Jpeg, JpegStep, Noise, NoiseStep, Resize
from legato.training.kernels import gaussian, sinc


def grey(level=0.5, rows=64, columns=64):
    return np.full((rows, columns, 3), level, np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def shares(names):
    return {name: names.count(name) / len(names) for name in set(names)}


# blur ---------------------------------------------------------------------------------------------


def test_blur_kinds_are_drawn_with_the_papers_probabilities():
    source = rng()
    drawn = shares([Blur(sizes=(7,)).draw(source, 1).kind for _ in range(3000)])
    for kind, share in Blur().kinds:
        assert abs(drawn[kind] - share) < 4 * math.sqrt(share * (1 - share) / 3000)


def test_blur_sizes_are_equally_likely():
    source = rng()
    round_blur = Blur(kinds=(("iso", 1.0),))
    drawn = shares([len(round_blur.draw(source, 1).kernels[0]) for _ in range(2400)])
    assert set(drawn) == {7, 9, 11, 13, 15, 17, 19, 21}
    assert all(abs(share - 1 / 8) < 0.028 for share in drawn.values())  # 4 standard errors


def test_blur_spares_the_stated_share_of_clips():
    source = rng()
    blur = Blur(probability=0.8, sizes=(7,))
    spared = sum(blur.draw(source, 1) is None for _ in range(1500))
    assert abs(spared / 1500 - 0.2) < 0.042  # 4 standard errors


@pytest.mark.parametrize("kind", [name for name, _ in Blur().kinds])
def test_a_clips_kernels_change_a_little_from_frame_to_frame(kind):
    blur = Blur(kinds=((kind, 1.0),), sizes=(21,))
    moved, strange = [], []
    for seed in range(20):
        drawn = blur.draw(rng(seed), 8).kernels
        changes = [np.abs(a - b).sum() for a, b in pairwise(drawn)]
        strangers = np.abs(drawn[0] - blur.draw(rng(seed + 100), 1).kernels[0]).sum()
        assert len(drawn) == 8
        # a long thin bell turns by up to 18 degrees, and a sinc's rings move with its cut-off
        assert max(changes) < (0.25 if kind.endswith("-iso") or kind == "iso" else 1.8)
        moved.append(np.median(changes))
        strange.append(strangers)
    assert 0 < np.mean(moved) < 0.35 * np.mean(strange)


def test_isotropic_kinds_are_round_and_the_others_are_not():
    source = rng()
    for kind in ("iso", "gen-iso", "plateau-iso"):
        kernel = Blur(kinds=((kind, 1.0),)).draw(source, 1).kernels[0]
        np.testing.assert_allclose(kernel, np.rot90(kernel), atol=1e-12)
    for kind in ("aniso", "gen-aniso", "plateau-aniso"):
        kernel = Blur(kinds=((kind, 1.0),)).draw(source, 1).kernels[0]
        assert np.abs(kernel - np.rot90(kernel)).sum() > 1e-3


def test_large_sinc_kernels_cut_lower_than_small_ones():
    def lowest(size):
        blur = Blur(kinds=(("sinc", 1.0),), sizes=(size,))
        return min(blur.draw(rng(s), 1).kernels[0].max() for s in range(200))

    # 200 uniform cut-offs come within 5% of the lowest one
    assert lowest(13) == pytest.approx(sinc(13, math.pi / 5).max(), rel=0.1)
    assert lowest(11) == pytest.approx(sinc(11, math.pi / 3).max(), rel=0.1)


def test_blur_applies_each_frames_own_kernel():
    point = np.zeros((33, 33, 3), np.float32)
    point[16, 16] = 1
    bells = (gaussian(9, 1.0, 2.0, 0.3), gaussian(9, 2.0, 1.0, 0.5))
    shown = BlurStep(kind="aniso", kernels=bells).apply([point, point], rng())
    for frame, bell in zip(shown, bells, strict=True):
        np.testing.assert_allclose(frame[12:21, 12:21, 1], bell, atol=1e-6)


def test_blur_of_a_flat_picture_changes_nothing_up_to_the_borders():
    step = Blur().draw(rng(), 1)
    np.testing.assert_allclose(step.apply([grey(0.3, 5, 40)], rng())[0], 0.3, atol=1e-5)


# resize -------------------------------------------------------------------------------------------


def test_resize_directions_are_drawn_as_stated():
    source = rng()
    scales = np.array([Resize().draw(source, 1).scales[0] for _ in range(2000)])
    assert abs((scales > 1).mean() - 0.2) < 0.036  # 4 standard errors
    assert abs((scales < 1).mean() - 0.7) < 0.041
    assert scales.min() >= 0.15
    assert scales.max() <= 1.5


def test_resize_walks_in_small_steps_and_makes_even_sizes():
    resize = Resize(up_share=0.0, down_share=1.0)
    step = resize.draw(rng(3), 10)
    assert np.abs(np.diff(step.scales)).max() <= 0.015
    sizes = [frame.shape[:2] for frame in step.apply([grey(0.5, 101, 77)] * 10, rng())]
    for (rows, columns), scale in zip(sizes, step.scales, strict=True):
        assert rows % 2 == columns % 2 == 0
        assert 101 * scale - 2 < rows <= 101 * scale
        assert 77 * scale - 2 < columns <= 77 * scale


@pytest.mark.parametrize("interpolation", ["bilinear", "area", "bicubic"])
def test_a_ramp_stays_in_place_when_the_size_changes(interpolation):
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], (64, 64, 3))
    small = FitStep(rows=16, columns=16, interpolation=interpolation).apply([ramp.copy()], rng())
    expected = (np.arange(16) * 4 + 1.5) / 63  # the middle of four pixels
    np.testing.assert_allclose(small[0][8, 1:-1, 0], expected[1:-1], atol=1e-3)


@pytest.mark.parametrize(
    "options", [{"up_share": 0.8}, {"smallest": 0.0}, {"largest": 0.9}, {"interpolations": ("x",)}]
)
def test_impossible_resizes_are_refused(options):
    with pytest.raises(InputError):
        Resize(**options)


# noise --------------------------------------------------------------------------------------------


def test_noise_kinds_and_greyness_are_drawn_as_stated():
    source = rng()
    steps = [Noise().draw(source, 1) for _ in range(2000)]
    assert abs(sum(step.kind == "gaussian" for step in steps) / 2000 - 0.5) < 0.045
    assert abs(sum(step.is_grey for step in steps) / 2000 - 0.4) < 0.044


def test_gaussian_noise_has_its_sigma_in_eight_bit_units():
    step = NoiseStep(kind="gaussian", is_grey=False, levels=(20.0, 5.0))
    shown = step.apply([grey(), grey()], rng())
    # 12288 samples: 4 standard errors of a standard deviation are 2.6%
    assert (shown[0] - 0.5).std() * 255 == pytest.approx(20, rel=0.026)
    assert (shown[1] - 0.5).std() * 255 == pytest.approx(5, rel=0.026)


def test_poisson_noise_has_the_variance_of_counted_photons():
    """A picture of four levels is counted with four photons at white: variance = value / 4."""
    picture = np.zeros((128, 128, 3), np.float32)
    for index, level in enumerate((51, 102, 153, 204)):
        picture[:, index * 32 : (index + 1) * 32] = level / 255
    shown = NoiseStep(kind="poisson", is_grey=False, levels=(0.5,)).apply([picture], rng())[0]
    for index, level in enumerate((51, 102, 153, 204)):
        noise = (shown - picture)[:, index * 32 : (index + 1) * 32]
        assert noise.mean() == pytest.approx(0, abs=0.01)
        assert noise.var() == pytest.approx(0.5**2 * level / 255 / 4, rel=0.08)


def test_a_floor_of_photons_keeps_flat_crops_from_drowning():
    flat = grey(0.5, 128, 128)
    drowned, kept = (
        NoiseStep(kind="poisson", is_grey=True, levels=(1.0,), fewest_photons=n).apply(
            [flat], rng()
        )[0]
        for n in (1, 64)
    )
    # 4 standard errors of a variance of 16384 samples
    assert (drowned - 0.5).var() == pytest.approx(0.5, rel=0.06)
    assert (kept - 0.5).var() == pytest.approx(0.5 / 64, rel=0.06)


def test_photons_are_counted_up_to_the_next_power_of_two():
    five_levels = np.repeat(np.linspace(0.2, 0.8, 5, dtype=np.float32), 32)[None, :, None]
    picture = np.ascontiguousarray(np.broadcast_to(five_levels, (256, 160, 3)))
    step = NoiseStep(kind="poisson", is_grey=False, levels=(1.0,))
    noise = step.apply([picture], rng())[0] - picture
    assert noise.var() == pytest.approx(0.5 / 8, rel=0.03)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
@pytest.mark.parametrize("is_grey", [True, False])
def test_grey_noise_is_the_same_in_all_channels(kind, is_grey):
    source = rng(5)
    picture = source.random((32, 32, 3), dtype=np.float32)
    shown = NoiseStep(kind=kind, is_grey=is_grey, levels=(1.0,)).apply([picture], source)[0]
    noise = shown - picture
    spread = np.abs(noise - noise[..., :1]).max()
    assert (spread < 1e-5) == is_grey


def test_noise_differs_between_frames():
    shown = NoiseStep(kind="gaussian", is_grey=False, levels=(9.0, 9.0)).apply([grey()] * 2, rng())
    correlation = np.corrcoef(shown[0].ravel(), shown[1].ravel())[0, 1]
    assert abs(correlation) < 0.04  # 4 standard errors


# JPEG ---------------------------------------------------------------------------------------------


def test_jpeg_keeps_red_red():
    red = grey(0.0)
    red[..., 0] = 0.8
    shown = JpegStep(qualities=(90,)).apply([red], rng())[0]
    np.testing.assert_allclose(shown.mean((0, 1)), [0.8, 0, 0], atol=0.02)


def test_lower_quality_hurts_more():
    picture = rng().random((64, 64, 3), dtype=np.float32)
    shown = JpegStep(qualities=(95, 60, 30)).apply([picture] * 3, rng())
    errors = [float(np.abs(frame - picture).mean()) for frame in shown]
    assert errors[0] < errors[1] < errors[2]


def test_qualities_are_whole_numbers_that_walk_within_the_range():
    source = rng()
    for _ in range(50):
        qualities = Jpeg().draw(source, 12).qualities
        assert all(30 <= quality <= 95 for quality in qualities)
        assert np.abs(np.diff(qualities)).max() <= 4  # a step of 3, then rounded twice
