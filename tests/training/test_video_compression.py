from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.errors import InputError, ResourceError
from legato.training.video_compression import (
    DECODERS,
    QUANTISERS,
    VideoCodec,
    VideoStep,
    compress,
)

CODECS = list(DECODERS)


def smooth_clip(num_frames=4, rows=48, columns=64):
    """Slow coloured waves that drift; every frame differs from the others."""
    t, y, x = np.mgrid[:num_frames, :rows, :columns]
    waves = [np.sin(x / 9 + t / 3), np.cos(y / 7 - t / 4), np.sin((x + y) / 11 + t)]
    return (128 + 70 * np.stack(waves, axis=-1)).astype(np.uint8)


def video(codec, bit_rate=50_000, quantiser=None):
    return VideoStep(codec=codec, bit_rate=bit_rate, frame_rate=1, quantiser=quantiser)


def error(a, b):
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("codec", CODECS)
def test_frames_come_back_in_their_order_and_nearly_the_same(codec):
    clip = smooth_clip(6)
    shown = compress(clip, video(codec, 100_000))
    for index in range(6):
        errors = [error(shown[index], frame) for frame in clip]
        assert errors[index] == min(errors)
        assert errors[index] < 8


def test_fewer_bits_hurt_more():
    clip = smooth_clip(6, 128, 128)
    clip += np.random.default_rng(0).integers(0, 40, (6, 128, 128, 1), dtype=np.uint8)
    poor, good = (error(compress(clip, video("libx264", r)), clip) for r in (2_000, 400_000))
    assert poor > 1.5 * good


@pytest.mark.parametrize("codec", CODECS)
def test_a_coarser_quantiser_hurts_more(codec):
    clip = smooth_clip(3)
    fine, coarse = (error(compress(clip, video(codec, quantiser=q)), clip) for q in (2, 31))
    assert coarse > 1.3 * fine


@pytest.mark.parametrize("codec", CODECS)
def test_a_drawn_quantiser_replaces_the_bit_rate(codec):
    drawn = VideoCodec(codecs=((codec, 1.0),), by_quantiser=True).draw(np.random.default_rng(0))
    low, high = QUANTISERS[codec]
    assert low <= drawn.quantiser <= high
    clip = smooth_clip(2)
    other = replace(drawn, bit_rate=drawn.bit_rate // 2)
    assert (compress(clip, drawn) == compress(clip, other)).all()


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=8)
@given(
    num_frames=st.integers(1, 3),
    half_rows=st.integers(1, 20),
    half_columns=st.integers(1, 20),
    seed=st.integers(0, 9),
)
def test_any_even_size_is_coded(codec, num_frames, half_rows, half_columns, seed):
    shape = (num_frames, 2 * half_rows, 2 * half_columns, 3)
    clip = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    assert compress(clip, video(codec, 20_000)).shape == shape


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("quantiser", [None, 26])
def test_the_same_clip_gives_the_same_bits_every_time(codec, quantiser):
    """Noise and small sizes, many times: this is where x264's lookahead once varied."""
    source = np.random.default_rng(0)
    step = video(codec, quantiser=quantiser)
    for rows, columns in ((70, 88), (36, 46), (32, 48)):
        clip = smooth_clip(3, rows, columns)
        clip += source.integers(0, 40, clip.shape, dtype=np.uint8)
        first = compress(clip, step)
        for size in range(10):
            source.random(100 + 9000 * size)  # memory that the next call may find
            assert (compress(clip, step) == first).all()


def test_odd_sizes_are_refused():
    with pytest.raises(InputError, match="even"):
        compress(smooth_clip(1, 7, 8), video("mpeg4", 10_000))


def test_a_missing_codec_is_a_lack_of_the_machine(monkeypatch):
    monkeypatch.setitem(DECODERS, "no-such-encoder", "h264")
    with pytest.raises(ResourceError, match="no-such-encoder"):
        compress(smooth_clip(1), video("no-such-encoder", 10_000))


def test_frames_of_other_sizes_come_back_at_the_first_ones_size_made_even():
    step = video("mpeg4")
    sizes = [(33, 21), (36, 20), (30, 24)]
    frames = [np.full((*size, 3), 0.25, np.float32) for size in sizes]
    shown = step.apply(frames, np.random.default_rng(0))
    assert [frame.shape for frame in shown] == [(32, 20, 3)] * 3
    assert np.abs(np.stack(shown) - 0.25).max() < 0.03


def test_a_single_pixel_is_scaled_up_to_what_a_codec_takes():
    step = video("libx264")
    shown = step.apply([np.full((1, 1, 3), 0.5, np.float32)], np.random.default_rng(0))
    assert shown[0].shape == (2, 2, 3)
    assert np.abs(shown[0] - 0.5).max() < 0.05


def test_values_are_rounded_not_truncated():
    frames = [np.full((32, 32, 3), 100.9 / 255, np.float32)]
    step = video("libx264", 100_000)
    shown = step.apply(frames, np.random.default_rng(0))
    assert np.rint(shown[0] * 255).mean() == pytest.approx(101, abs=0.5)


def test_codecs_and_bit_rates_are_drawn_as_stated():
    rng = np.random.default_rng(0)
    steps = [VideoCodec().draw(rng) for _ in range(1500)]
    rates = np.array([step.bit_rate for step in steps])
    for codec in CODECS:
        share = sum(step.codec == codec for step in steps) / 1500
        assert abs(share - 1 / 3) < 0.05  # 4 standard errors
    assert 10_000 <= rates.min() < 11_000
    assert 99_000 < rates.max() < 100_000


@pytest.mark.parametrize(
    "options",
    [
        {"codecs": (("gif", 1.0),)},
        {"lowest_bit_rate": 999},
        {"lowest_bit_rate": 200_000},
        {"frame_rate": 0},
    ],
)
def test_impossible_codec_options_are_refused(options):
    with pytest.raises(InputError):
        VideoCodec(**options)
