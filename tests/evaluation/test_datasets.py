import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.errors import InputError
from legato.evaluation.datasets import SEVERITIES, Severity, degrade, seed_of


def smooth_clip(num_frames=3, rows=96, cols=128):
    y, x = np.mgrid[:rows, :cols]
    frames = [
        np.stack([128 + 90 * np.sin((x + t) / 17), 128 + 90 * np.cos(y / 13), x + y], axis=-1)
        for t in range(num_frames)
    ]
    return np.stack(frames).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", sorted(SEVERITIES))
def test_same_name_gives_same_damage(name):
    clip = smooth_clip()
    runs = set()
    for size in range(5):
        np.random.default_rng().bytes(size * 50_000)  # the encoder must not read what lies about
        small = degrade(clip, SEVERITIES[name], np.random.default_rng(seed_of("x")))
        runs.add(small.tobytes())
    assert len(runs) == 1


def test_another_name_gives_other_damage():
    clip = smooth_clip()
    a, b = (degrade(clip, SEVERITIES["s2"], np.random.default_rng(seed_of(n))) for n in "ab")
    assert not np.array_equal(a, b)


def test_seed_of_a_name_never_changes():
    assert seed_of("01_butterfly") == 8513003807964496048


def test_no_damage_is_the_area_reduction():
    clip = smooth_clip()
    small = degrade(clip, Severity(reductions=("area",)), np.random.default_rng(0))
    exact = clip.reshape(3, 24, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(small - exact).max() <= 0.5 + 1e-6


def test_noise_has_the_drawn_deviation():
    grey = np.full((4, 512, 512, 3), 128, np.uint8)
    small = degrade(grey, Severity(noise_sigma=(8.0, 8.0)), np.random.default_rng(0))
    assert small.std() == pytest.approx(8.0, rel=0.02)
    assert small.mean() == pytest.approx(128.0, abs=0.1)


def test_x264_keeps_colour_and_order_of_frames():
    clip = smooth_clip(num_frames=6)
    clip[4:] = 255 - clip[4:]
    severity = Severity(reductions=("area",), crf=(8, 8))
    small = degrade(clip, severity, np.random.default_rng(0)).astype(float)
    clean = degrade(clip, Severity(reductions=("area",)), np.random.default_rng(0)).astype(float)
    assert np.abs(small - clean).mean() < 8  # chroma has half the resolution
    assert np.abs(small.mean(axis=(0, 1, 2)) - clean.mean(axis=(0, 1, 2))).max() < 2


def test_x264_neither_darkens_nor_tints():
    clip = 64 + smooth_clip(num_frames=2, rows=256, cols=256) // 2  # nothing near black or white
    severity = Severity(reductions=("area",), crf=(1, 1))
    small = degrade(clip, severity, np.random.default_rng(0)).astype(float)
    clean = degrade(clip, Severity(reductions=("area",)), np.random.default_rng(0)).astype(float)
    assert np.abs((small - clean).mean(axis=(0, 1, 2))).max() < 0.6


def test_severities_damage_more_and_more():
    clip = smooth_clip(num_frames=4, rows=256, cols=256)
    clean = degrade(clip, Severity(reductions=("area",)), np.random.default_rng(0)).astype(float)
    errors = [
        np.square(degrade(clip, SEVERITIES[s], np.random.default_rng(0)) - clean).mean()
        for s in ("s1", "s2", "s3")
    ]
    assert errors == sorted(errors)


def test_probability_zero_switches_compression_off_and_leaves_the_noise():
    clip = smooth_clip(num_frames=1)
    noisy = Severity(noise_sigma=(5.0, 5.0))
    never = Severity(
        noise_sigma=(5.0, 5.0),
        jpeg_quality=(10, 20),
        jpeg_probability=0.0,
        crf=(40, 45),
        crf_probability=0.0,
    )
    plain, unlikely = (degrade(clip, s, np.random.default_rng(1)) for s in (noisy, never))
    assert np.array_equal(plain, unlikely)


@settings(max_examples=12)
@given(st.integers(1, 3), st.integers(4, 90), st.integers(4, 90))
def test_every_size_comes_back_a_quarter_as_large(num_frames, rows, cols):
    clip = np.zeros((num_frames, rows, cols, 3), np.uint8)
    small = degrade(clip, SEVERITIES["s3"], np.random.default_rng(0))
    assert small.shape == (num_frames, rows // 4, cols // 4, 3)


def test_a_clip_smaller_than_the_reduction_is_refused():
    with pytest.raises(InputError, match="3x40"):
        degrade(np.zeros((1, 40, 3, 3), np.uint8), SEVERITIES["s1"], np.random.default_rng(0))


def test_a_severity_without_a_reduction_is_refused():
    with pytest.raises(InputError, match="area, bilinear, bicubic"):
        Severity(reductions=())
