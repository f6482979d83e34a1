import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.evaluation.registration import Registration, global_shift


def texture(rows=120, cols=160, seed=0):
    noise = np.random.default_rng(seed).normal(size=(rows, cols, 3))
    soft = sum(s * cv2.GaussianBlur(noise, (0, 0), s) for s in (1, 2, 4, 8))
    return (128 + 40 * soft / soft.std()).clip(0, 255).astype(np.uint8)


def moved(picture, x, y):
    """A picture shifted exactly, by turning the phases of its spectrum."""
    ky, kx = (np.fft.fftfreq(n) for n in picture.shape[:2])
    turn = np.exp(-2j * np.pi * (ky[:, None, None] * y + kx[None, :, None] * x))
    shifted = np.fft.ifft2(np.fft.fft2(picture, axes=(0, 1)) * turn, axes=(0, 1)).real
    return shifted.clip(0, 255).round().astype(np.uint8)


def test_a_picture_lies_on_itself():
    assert global_shift(texture(), texture()) == pytest.approx((0, 0), abs=1e-6)


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, -0.5), (0.1, 0.25), (-1.0, 2.0)])
def test_shifts_are_measured_to_a_few_hundredths(shift):
    assert global_shift(moved(texture(), *shift), texture()) == pytest.approx(shift, abs=0.04)


def test_large_shifts_are_measured_to_two_percent():
    assert global_shift(moved(texture(), 3.3, -7.6), texture()) == pytest.approx(
        (3.3, -7.6), rel=0.02
    )


@settings(max_examples=8)
@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(64, 100), st.integers(64, 100))
def test_every_size_and_direction(x, y, rows, cols):
    picture = texture(rows, cols)
    assert global_shift(moved(picture, x, y), picture) == pytest.approx((x, y), abs=0.1)


def test_blur_is_no_shift():
    blurred = cv2.GaussianBlur(texture(), (0, 0), 2)
    assert global_shift(blurred, texture()) == pytest.approx((0, 0), abs=0.02)


def test_only_a_shift_beyond_its_error_is_called_one():
    assert Registration.of([(0.5, 0.0)] * 8).is_shifted
    assert Registration.of([(0.5, 0.0)]).is_shifted
    assert not Registration.of([(0.05, 0.05)] * 8).is_shifted
    assert not Registration.of([(0.7, 0.0), (-0.4, 0.3), (0.3, -0.5), (0.2, 0.1)]).is_shifted


@pytest.mark.parametrize(("error", "is_shifted"), [(0.04, True), (0.06, False)])
def test_a_shift_counts_by_what_is_beyond_twice_its_error(error, is_shifted):
    assert Registration(x=0.2, y=0.0, error=error).is_shifted == is_shifted


def test_one_odd_frame_does_not_move_the_rest():
    found = Registration.of([(0.3, -0.1)] * 6 + [(9.0, 9.0)])
    assert (found.x, found.y) == pytest.approx((0.3, -0.1))
