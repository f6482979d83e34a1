import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.errors import InputError
from legato.training.kernels import gaussian, plateau, sinc

sizes = st.sampled_from([7, 9, 11, 13, 15, 17, 19, 21])
sigmas = st.floats(0.2, 3.0)
angles = st.floats(-math.pi, math.pi)
betas = st.floats(0.5, 4.0)


@settings(max_examples=40)
@given(sizes, sigmas, sigmas, angles, betas)
def test_bell_kernels_sum_to_one_and_equal_their_half_turn(size, sigma_x, sigma_y, angle, beta):
    for shape in (gaussian, plateau):
        kernel = shape(size, sigma_x, sigma_y, angle, beta=beta)
        assert kernel.shape == (size, size)
        assert kernel.min() >= 0
        assert abs(kernel.sum() - 1) < 1e-12
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)


@settings(max_examples=40)
@given(sizes, sigmas, angles, betas)
def test_equal_sigmas_give_the_isotropic_kernel_whatever_the_angle(size, sigma, angle, beta):
    for shape in (gaussian, plateau):
        turned = shape(size, sigma, sigma, angle, beta=beta)
        straight = shape(size, sigma, sigma, beta=beta)
        # rtol on top: at sigma 0.2 the exponent is large and its rounding shows in tiny values
        np.testing.assert_allclose(turned, straight, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(straight, straight.T, atol=1e-12)
        np.testing.assert_allclose(straight, straight[::-1], atol=1e-12)


@settings(max_examples=40)
@given(sizes, sigmas, sigmas, betas)
def test_a_quarter_turn_swaps_rows_and_columns(size, sigma_x, sigma_y, beta):
    turned = gaussian(size, sigma_x, sigma_y, math.pi / 2, beta=beta)
    upright = gaussian(size, sigma_x, sigma_y, beta=beta)
    np.testing.assert_allclose(turned, upright.T, rtol=1e-6, atol=1e-12)


def test_the_second_moments_are_the_rotated_covariance():
    sigma_x, sigma_y, angle = 1.8, 0.9, 0.4
    kernel = gaussian(41, sigma_x, sigma_y, angle)
    line = np.arange(41) - 20
    x, y = np.meshgrid(line, line)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    expected = turn @ np.diag([sigma_x**2, sigma_y**2]) @ turn.T
    moments = np.array([[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)])
    np.testing.assert_allclose(moments, expected, atol=1e-6)


def test_shape_one_is_the_plain_gaussian():
    line = np.arange(9) - 4
    bell = np.exp(-(line**2) / (2 * 1.3**2))
    expected = np.outer(bell, bell) / bell.sum() ** 2
    np.testing.assert_allclose(gaussian(9, 1.3, 1.3), expected, atol=1e-15)


def test_a_large_shape_is_flatter_at_the_top_than_a_gaussian():
    def fall(kernel):
        return kernel[10, 11] / kernel[10, 10]

    assert fall(plateau(21, 2.0, 2.0, beta=2.0)) > fall(plateau(21, 2.0, 2.0, beta=1.0))
    assert fall(gaussian(21, 2.0, 2.0, beta=2.0)) > fall(gaussian(21, 2.0, 2.0, beta=1.0))


def test_plateau_is_half_its_top_where_q_is_one():
    kernel = plateau(21, 3.0, 2.0, beta=1.7)
    assert kernel[10, 13] / kernel[10, 10] == pytest.approx(0.5)
    assert kernel[12, 10] / kernel[10, 10] == pytest.approx(0.5)


@pytest.mark.parametrize("size", [7, 13, 21, 61])
@pytest.mark.parametrize("omega", [math.pi / 5, math.pi / 3, 2.0, math.pi])
def test_sinc_equals_its_formula_with_an_independent_bessel_function(size, omega):
    special = pytest.importorskip("scipy.special", reason="the independent Bessel function")
    expected = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            r = math.hypot(row - size // 2, column - size // 2)
            expected[row, column] = (
                omega * special.j1(omega * r) / (2 * math.pi * r) if r else omega**2 / (4 * math.pi)
            )
    np.testing.assert_allclose(sinc(size, omega), expected / expected.sum(), atol=1e-12)


@settings(max_examples=40)
@given(sizes, st.floats(math.pi / 5, math.pi))
def test_sinc_sums_to_one_and_has_the_symmetries_of_a_square(size, omega):
    kernel = sinc(size, omega)
    assert abs(kernel.sum() - 1) < 1e-12
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-12)
    np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-12)


def test_sinc_lets_frequencies_below_the_cut_off_pass_and_stops_those_above():
    response = np.abs(np.fft.fft2(sinc(61, math.pi / 2), s=(256, 256)))[0]
    assert response[:40].min() > 0.9
    assert response[:40].max() < 1.1
    assert response[90:129].max() < 0.1


@pytest.mark.parametrize("make", [lambda: gaussian(8, 1.0, 1.0), lambda: sinc(0, 1.0)])
def test_kernels_without_a_centre_pixel_are_refused(make):
    with pytest.raises(InputError, match="centre"):
        make()
