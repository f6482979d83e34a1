"""Whether two pictures lie on one another: their shift, to a hundredth of a pixel.

A shift of a quarter of a pixel costs more PSNR than most methods differ by, and no figure tells it
from blur. Croppers and resizers with another idea of a pixel's centre cause it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

LARGEST_SHIFT_PX = 0.1
"""Beyond this, figures with a reference are not to be trusted."""

_LARGEST_SIGMA_PX, _PX_PER_SIGMA = 4.0, 64
_MEDIAN_OVER_MEAN = 1.2533  # standard error of a median over that of a mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How a clip lies on its reference."""

    x: float
    """Pixels that it lies to the right; the median over some frames, as is y."""
    y: float
    """Pixels that it lies below."""
    error: float
    """Standard error of both together, from the spread over frames; 0 for one frame."""

    @property
    def distance(self) -> float:
        """Length of the shift in pixels."""
        return float(np.hypot(self.x, self.y))

    @property
    def is_shifted(self) -> bool:
        """Whether the shift exceeds 0.1 pixel by more than chance and damage explain."""
        return self.distance - 2 * self.error > LARGEST_SHIFT_PX

    @classmethod
    def of(cls, shifts: Sequence[tuple[float, float]]) -> "Registration":
        """Return what the shifts of some frames say together."""
        x, y = np.median(shifts, axis=0)
        spread = np.hypot(*np.std(shifts, axis=0)) / np.sqrt(max(1, len(shifts) - 1))
        return cls(x=float(x), y=float(y), error=float(_MEDIAN_OVER_MEAN * spread))


def global_shift(
    picture: UInt8[ndarray, "H W 3"], truth: UInt8[ndarray, "H W 3"]
) -> tuple[float, float]:
    """Return by how many pixels a picture lies right of and below its truth: (x, y).

    Phase correlation of windowed lumas (Kuglin & Hines 1975). The phases are weighted by a
    Gaussian, so that frequencies which blur removes do not count and the peak is a Gaussian too,
    whose centre three logarithms give exactly. Its deviation is 4 pixels, less in small pictures,
    where the window's own edge weighs more. Shifts of half the picture and more alias.

    Args:
        picture: what is judged.
        truth: of the same size.
    """
    rows, cols = picture.shape[:2]
    window = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(cols + 2)[1:-1])
    a, b = (_spectrum(p, window) for p in (picture, truth))
    cross = a * b.conj()
    ky, kx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(cols)[None]
    sigma_px = min(_LARGEST_SIGMA_PX, min(rows, cols) / _PX_PER_SIGMA)
    weight = np.exp(-2 * (np.pi * sigma_px) ** 2 * (ky**2 + kx**2))
    peak = np.fft.irfft2(weight * cross / np.maximum(np.abs(cross), 1e-12), s=(rows, cols))
    y, x = np.unravel_index(np.argmax(peak), peak.shape)
    return _centre(peak[y], int(x)), _centre(peak[:, x], int(y))


def _spectrum(picture: UInt8[ndarray, "H W 3"], window: Float[ndarray, "H W"]) -> ndarray:
    luma = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float64)
    return np.fft.rfft2(window * (luma - luma.mean()))


def _centre(line: Float[ndarray, "n"], top: int) -> float:
    """Return the centre of a Gaussian peak on a circular line, as a signed shift."""
    num = len(line)
    left, middle, right = (
        np.log(max(float(line[(top + step) % num]), 1e-12)) for step in (-1, 0, 1)
    )
    bend = left - 2 * middle + right
    offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float((top + offset + num / 2) % num - num / 2)
