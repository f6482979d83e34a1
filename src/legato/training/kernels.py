"""Blur kernels of synthetic degradation: Gaussian, generalised Gaussian, plateau and sinc.

With p a pixel's offset from the centre (x right, y down), S = R diag(sigma_x^2, sigma_y^2) R^T and
q = p^T S^-1 p, every kernel is a function of q or of r = |p|, sampled at pixel centres and
normalised to sum 1.
Sources: Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833, section 3.2 and eq. 6), Liu et al. 2020
(arXiv:2003.00678) for the generalised and plateau shapes.
"""

import math

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from legato.errors import InputError

Kernel = Float64[ndarray, "k k"]


def gaussian(
    size: int, sigma_x: float, sigma_y: float, angle_rad: float = 0.0, *, beta: float = 1.0
) -> Kernel:
    """Sample exp(-q^beta / 2), the generalised Gaussian; beta = 1 is the Gaussian.

    Args:
        size: rows and columns, odd.
        sigma_x: standard deviation along the first principal axis, in pixels, above 0.
        sigma_y: standard deviation along the second principal axis, in pixels, above 0.
        angle_rad: rotation that carries the x axis onto the first principal axis.
        beta: shape; below 1 heavier tails, above 1 a flatter top.
    """
    q = _quadratic_form(size, sigma_x, sigma_y, angle_rad)
    return _normalised(np.exp(-0.5 * q**beta))


def plateau(
    size: int, sigma_x: float, sigma_y: float, angle_rad: float = 0.0, *, beta: float = 1.0
) -> Kernel:
    """Sample 1 / (1 + q^beta), which is flat in the middle for beta above 1.

    Args: as `gaussian`.
    """
    q = _quadratic_form(size, sigma_x, sigma_y, angle_rad)
    return _normalised(1.0 / (1.0 + q**beta))


def sinc(size: int, omega_rad: float) -> Kernel:
    """Sample the circular low-pass omega J1(omega r) / (2 pi r), which rings like oversharpening.

    Real-ESRGAN, eq. 6; the centre is the limit omega^2 / (4 pi).

    Args:
        size: rows and columns, odd.
        omega_rad: cut-off, in radians per pixel, above 0 and at most pi.
    """
    x, y = _offsets(size)
    r = np.hypot(x, y)
    centre = r == 0
    r[centre] = 1.0
    values = omega_rad * _bessel_j1(omega_rad * r) / (2 * math.pi * r)
    values[centre] = omega_rad**2 / (4 * math.pi)
    return _normalised(values)


def _offsets(size: int) -> tuple[Kernel, Kernel]:
    if size < 1 or size % 2 == 0:
        raise InputError(
            f"kernel size={size}",
            why="a kernel needs a centre pixel",
            fix="use an odd size of 1 or more",
        )
    line = np.arange(size, dtype=np.float64) - size // 2
    x, y = np.meshgrid(line, line)
    return x, y


def _quadratic_form(size: int, sigma_x: float, sigma_y: float, angle_rad: float) -> Kernel:
    x, y = _offsets(size)
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    along, across = cos * x + sin * y, cos * y - sin * x
    q: Kernel = (along / sigma_x) ** 2 + (across / sigma_y) ** 2
    return q


def _bessel_j1(x: Kernel) -> Kernel:
    """J1(x), the mean of cos(t - x sin t) over t in [0, pi].

    The midpoint rule is exact to rounding here: the integrand is periodic, and its harmonics fade
    beyond the largest |x|.
    """
    values, places = np.unique(x, return_inverse=True)
    num_nodes = 32 + math.ceil(values[-1])
    t = (np.arange(num_nodes) + 0.5) * math.pi / num_nodes
    means = np.cos(t - values[:, None] * np.sin(t)).mean(axis=1)
    j1: Kernel = means[places].reshape(x.shape)
    return j1


def _normalised(values: Kernel) -> Kernel:
    normalised: Kernel = values / values.sum()
    return normalised
