from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.errors import InputError
from legato.evaluation.datasets import SEVERITIES
from legato.training import degradation
from legato.training.blur import BlurStep
from legato.training.corruptions import FitStep, JpegStep, NoiseStep, ResizeStep
from legato.training.degradation import (
    SMALL_CROPS,
    WIDE,
    Blur,
    Jpeg,
    Noise,
    Resize,
    SecondOrder,
    VideoCodec,
    Walk,
    fast,
    mixed,
    second_order,
    sharpen,
)
from legato.training.video_compression import VideoStep

HARMLESS = SecondOrder(
    blur_1=Blur(probability=0.0),
    resize_1=Resize(up_share=0.0, down_share=0.0),
    noise_1=Noise(gaussian_share=1.0, sigma=Walk(0.0, 0.0)),
    jpeg_1=Jpeg(quality=Walk(100.0, 100.0)),
    video_1=VideoCodec(probability=0.0),
    blur_2=Blur(probability=0.0),
    resize_2=Resize(up_share=0.0, down_share=0.0),
    noise_2=Noise(gaussian_share=1.0, sigma=Walk(0.0, 0.0)),
    jpeg_2=Jpeg(quality=Walk(100.0, 100.0)),
    video_2=VideoCodec(probability=0.0),
    last_interpolations=("area",),
    last_blur=Blur(probability=0.0),
)


def waves(num_frames=3, rows=64, columns=80):
    t, y, x = np.mgrid[:num_frames, :rows, :columns]
    parts = [np.sin(x / 5 + t / 3), np.cos(y / 4 - t / 4), np.sin((x + y) / 7 + t)]
    return (128 + 80 * np.stack(parts, axis=-1)).astype(np.uint8)


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(max_examples=25)
@given(
    num_frames=st.integers(1, 3),
    rows=st.integers(4, 70),
    columns=st.integers(4, 70),
    scale=st.sampled_from([1, 2, 3, 4]),
    seed=st.integers(0, 10_000),
)
def test_every_size_and_length_comes_back_exactly_reduced(num_frames, rows, columns, scale, seed):
    source = rng(seed)
    clip = source.integers(0, 256, (num_frames, rows, columns, 3), dtype=np.uint8)
    small = second_order(clip, source, scale=scale)
    assert small.dtype == np.uint8
    assert small.shape == (num_frames, rows // scale, columns // scale, 3)


@pytest.mark.parametrize("degrade", [second_order, fast])
def test_a_seed_settles_the_result(degrade):
    first, again, other = (degrade(waves(), rng(seed)) for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()


def test_the_global_generators_are_left_alone():
    # Python's own cannot be watched: the type checker of the tests draws from it

    def states():
        legacy = np.random.get_state()
        return legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()

    before = states()
    for seed in range(6):
        mixed(waves(), rng(seed), second_order_share=0.5)
    sharpen(waves())
    assert states() == before


def test_the_opencv_generator_is_not_read():
    cv2.setRNGSeed(1)
    first = second_order(waves(), rng(3))
    cv2.setRNGSeed(2)
    assert (second_order(waves(), rng(3)) == first).all()


def test_the_callers_clip_is_not_changed():
    clip = waves()
    before = clip.copy()
    second_order(clip, rng())
    sharpen(clip)
    assert (clip == before).all()


def test_steps_come_in_the_papers_order_and_the_last_pair_in_either():
    certain = replace(
        SecondOrder(),
        blur_1=replace(SecondOrder().blur_1, sizes=(7,)),
        blur_2=replace(SecondOrder().blur_2, probability=1.0, sizes=(7,)),
        last_blur=replace(SecondOrder().last_blur, probability=1.0, sizes=(7,)),
    )
    stage = [BlurStep, ResizeStep, NoiseStep, JpegStep]
    beginning = [*stage, VideoStep, *stage]
    source = rng()
    video_first = 0
    for _ in range(300):
        kinds = [type(step) for step in certain.draw(source, 1, (16, 16))]
        assert kinds[:9] == beginning
        assert kinds[9:] in ([VideoStep, FitStep, BlurStep], [FitStep, BlurStep, VideoStep])
        video_first += kinds[9] is VideoStep
    assert abs(video_first / 300 - 0.5) < 0.116  # 4 standard errors


def test_the_last_blur_is_a_sinc():
    source = rng()
    drawn = [SecondOrder().last_blur.draw(source, 1) for _ in range(400)]
    assert {step.kind for step in drawn if step} == {"sinc"}
    assert abs(sum(step is None for step in drawn) / 400 - 0.2) < 0.08  # 4 standard errors


def test_the_defaults_are_the_papers():
    first, second = SecondOrder(), SecondOrder()
    assert first == second
    values = asdict(first)
    assert values["blur_1"]["sigma_px"] == {"low": 0.2, "high": 3.0, "step": 0.02}
    assert values["blur_2"]["sigma_px"] == {"low": 0.2, "high": 1.5, "step": 0.02}
    assert (values["blur_1"]["probability"], values["blur_2"]["probability"]) == (1.0, 0.8)
    sizes = [
        (values[name]["smallest"], values[name]["largest"]) for name in ("resize_1", "resize_2")
    ]
    assert sizes == [(0.15, 1.5), (0.3, 1.2)]
    moves = [(values[n]["up_share"], values[n]["down_share"]) for n in ("resize_1", "resize_2")]
    assert moves == [(0.2, 0.7), (0.3, 0.4)]
    assert values["noise_1"]["sigma"]["high"] == 30.0
    assert values["noise_2"]["sigma"]["high"] == 25.0
    assert values["noise_1"]["poisson_scale"]["high"] == 3.0
    assert values["noise_2"]["poisson_scale"]["high"] == 2.5
    for name in ("jpeg_1", "jpeg_2"):
        assert values[name]["quality"] == {"low": 30.0, "high": 95.0, "step": 3.0}
    for name in ("video_1", "video_2"):
        assert values[name]["lowest_bit_rate"] == 10_000
        assert values[name]["highest_bit_rate"] == 100_000


def test_without_damage_only_the_reduction_is_left():
    clip = waves(2)
    expected = clip.reshape(2, 16, 4, 20, 4, 3).mean((2, 4))
    shown = second_order(clip, rng(), options=HARMLESS)
    # two rounds of JPEG at quality 100 with halved colour resolution
    assert np.abs(shown - expected).mean() < 2.5


def test_the_small_picture_is_not_displaced():
    """The centre of a blob stays within a quarter of a small pixel, whatever sizes lie between."""
    y, x = np.mgrid[:96, :96]
    blob = np.exp(-((x - 45.5) ** 2 + (y - 53.5) ** 2) / (2 * 10**2))
    clip = np.repeat((blob[None, ..., None] * 255).astype(np.uint8), 3, axis=3)
    resizes = replace(HARMLESS, resize_1=Resize(), resize_2=SecondOrder().resize_2)
    blurs = replace(resizes, blur_1=Blur(), last_blur=Blur(probability=1.0))
    for seed in range(12):
        small = second_order(clip, rng(seed), options=blurs)[0].astype(float).sum(2)
        rows, columns = np.mgrid[:24, :24]
        centre = [(small * axis).sum() / small.sum() for axis in (columns, rows)]
        # pixel centres: a small pixel i covers 4i .. 4i + 3, whose middle is 4i + 1.5
        assert np.abs(np.array(centre) - [(45.5 - 1.5) / 4, (53.5 - 1.5) / 4]).max() < 0.25


def test_rows_and_columns_beyond_a_multiple_of_the_scale_do_not_count():
    clip = waves(2, 67, 82)
    assert (second_order(clip, rng(4)) == second_order(clip[:, :64, :80], rng(4))).all()


@pytest.mark.parametrize("shape", [(0, 16, 16, 3), (2, 3, 16, 3), (2, 16, 3, 3)])
def test_a_clip_of_which_nothing_would_be_left_is_refused(shape):
    with pytest.raises(InputError, match="nothing"):
        second_order(np.zeros(shape, np.uint8), rng())


def test_damage_is_worse_than_plain_reduction_but_keeps_the_picture():
    clip = waves(3, 96, 96)
    plain = clip.reshape(3, 24, 4, 24, 4, 3).mean((2, 4))
    errors = [np.abs(second_order(clip, rng(s)) - plain).mean() for s in range(8)]
    strangers = np.abs(plain - plain[:, ::-1, ::-1]).mean()
    assert 2 < np.median(errors) < 0.7 * strangers


# sharpening ---------------------------------------------------------------------------------------


def test_sharpening_leaves_a_flat_picture_and_faint_texture_alone():
    faint = np.full((1, 60, 70, 3), 90, np.uint8)
    faint[:, ::2] += 8
    assert (sharpen(faint) == faint).all()


def test_sharpening_raises_the_contrast_of_an_edge_and_keeps_its_mean():
    edge = np.full((1, 80, 80, 3), 80, np.uint8)
    edge[:, :, 40:] = 160
    shown = sharpen(edge).astype(int)
    assert shown[0, 40, 39, 0] < 80 < 160 < shown[0, 40, 40, 0]
    assert abs(shown.mean() - 120) < 1


@pytest.mark.parametrize("size", [(1, 1), (4, 9), (30, 20)])
def test_sharpening_takes_pictures_smaller_than_its_blur(size):
    clip = rng().integers(0, 256, (2, *size, 3), dtype=np.uint8)
    assert sharpen(clip).shape == clip.shape


def test_the_recipe_for_small_crops_differs_from_the_paper_in_two_points_only():
    values, paper = asdict(SMALL_CROPS), asdict(SecondOrder())
    for name in ("noise_1", "noise_2"):
        assert values[name].pop("fewest_photons") == 64
        assert paper[name].pop("fewest_photons") == 1
    for name in ("video_1", "video_2"):
        assert values[name].pop("by_quantiser") != paper[name].pop("by_quantiser")
    assert values == paper


# the mixture --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SEVERITIES))
def test_the_wide_ranges_enclose_the_measured_levels(name):
    level = SEVERITIES[name]
    for field in ("blur_sigma_px", "blur_axis_ratio", "noise_sigma", "crf"):
        (low, high), (wide_low, wide_high) = getattr(level, field), getattr(WIDE, field)
        assert wide_low <= low
        assert high <= wide_high
    if level.jpeg_quality:
        assert WIDE.jpeg_quality[0] <= level.jpeg_quality[0]
    assert WIDE.jpeg_probability < 1


def test_mild_clips_are_mild_in_every_way_and_bad_ones_bad():
    mild, bad = degradation._alike(0.0), degradation._alike(1.0)
    for name in ("blur_sigma_px", "noise_sigma", "crf"):
        low, high = getattr(WIDE, name)
        assert getattr(mild, name)[0] == low
        assert getattr(bad, name)[1] == high
        assert getattr(mild, name)[1] < getattr(bad, name)[0]
    low, high = WIDE.jpeg_quality
    assert mild.jpeg_quality[1] == high
    assert bad.jpeg_quality[0] == low
    assert bad.jpeg_quality[1] < mild.jpeg_quality[0]
    assert mild.jpeg_probability < bad.jpeg_probability


def test_mixed_uses_each_way_as_often_as_asked(monkeypatch):
    taken = []
    for name in ("second_order", "degrade", "fast"):
        monkeypatch.setattr(
            degradation, name, lambda clip, *_, n=name, **__: (taken.append(n), clip)[1]
        )
    source = rng()
    for _ in range(1000):
        mixed(waves(1, 4, 4), source, second_order_share=0.25, measured_share=0.4)
    for name, share in {"second_order": 0.25, "degrade": 0.4, "fast": 0.35}.items():
        assert abs(taken.count(name) / 1000 - share) < 0.063  # 4 standard errors


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_mixed_at_its_ends_reduces_by_four(share):
    assert mixed(waves(), rng(), second_order_share=share).shape == (3, 16, 20, 3)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_no_probability_is_refused(share):
    with pytest.raises(InputError):
        mixed(waves(), rng(), second_order_share=share)
    with pytest.raises(InputError):
        mixed(waves(), rng(), second_order_share=0.1, measured_share=share)
