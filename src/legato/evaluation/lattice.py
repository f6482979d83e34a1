"""Lattice energy: the grid that networks leave which enlarge by shuffling or repeating pixels.

Perceptual losses at a fixed phase teach a network patterns that repeat every two or four pixels.
Figures like LPIPS do not see them, people do. Clean pictures have an energy of about 1.
"""

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from legato import axes
from legato.errors import InputError

LUMA = np.array(axes.LUMA, np.float32)
PERIODS_PX = (4, 2)
_NEIGHBOURHOOD = 24  # neighbours lie within 1/24 of the sampling rate
_MIN_SIDE_PX = 24


def lattice_energy(clip: UInt8[ndarray, "T H W 3"]) -> float:
    """Return by how much periods of 4 and 2 pixels stand out of the spectrum.

    Luma; first difference along an axis, circular; power spectrum along that axis, averaged over
    everything else; power at 1/4 and 1/2 cycle per pixel over the median of the neighbouring
    frequencies (within 1/24 of the sampling rate, without the line and its two neighbours); the
    largest of both frequencies and axes.

    Args:
        clip: RGB; rows and columns beyond a multiple of four are left out.

    Raises:
        InputError: the clip has no frame, or less than 24 rows or columns.
    """
    meter = LatticeMeter()
    for picture in clip:
        meter.add(picture)
    return meter.energy()


class LatticeMeter:
    """Lattice energy of a clip whose frames come one by one; see `lattice_energy`."""

    def __init__(self) -> None:
        self._spectra: list[ndarray] = []

    def add(self, picture: UInt8[ndarray, "H W 3"]) -> None:
        """Count one more frame.

        Raises:
            InputError: it has less than 24 rows or columns.
        """
        rows, cols = picture.shape[:2]
        if min(rows, cols) < _MIN_SIDE_PX:
            raise _too_little(f"a frame of {cols}x{rows}")
        luma = (picture.astype(np.float32) @ LUMA)[: rows // 4 * 4, : cols // 4 * 4]
        powers = [_power(luma.T), _power(luma)]
        if self._spectra:
            powers = [old + new for old, new in zip(self._spectra, powers, strict=True)]
        self._spectra = powers

    def energy(self) -> float:
        """Return the energy of the frames so far.

        Raises:
            InputError: there was none.
        """
        if not self._spectra:
            raise _too_little("no frame")
        return max(_peak(spectrum, period) for spectrum in self._spectra for period in PERIODS_PX)


def _too_little(what: str) -> InputError:
    return InputError(
        what,
        why="the spectrum has too few frequencies to find a lattice",
        fix=f"measure clips of at least {_MIN_SIDE_PX}x{_MIN_SIDE_PX}",
    )


def lattice_ratio(energy: float, truth_energy: float) -> float:
    """Return an energy relative to the ground truth's, which counts as at least 1."""
    return energy / max(1.0, truth_energy)


def _power(luma: Float[ndarray, "rows cols"]) -> Float[ndarray, "frequencies"]:
    """Power spectrum along columns, averaged over rows; from 0 to half a cycle per pixel."""
    difference = np.roll(luma, -1, axis=1) - luma
    return np.asarray(np.square(np.abs(np.fft.rfft(difference, axis=1))).mean(axis=0))


def _peak(spectrum: Float[ndarray, "frequencies"], period_px: int) -> float:
    num_samples = 2 * (len(spectrum) - 1)
    line = num_samples // period_px
    reach = max(3, num_samples // _NEIGHBOURHOOD)
    distance = np.abs(np.arange(len(spectrum)) - line)
    neighbours = spectrum[(distance > 1) & (distance <= reach)]
    return float(spectrum[line] / max(float(np.median(neighbours)), 1e-12))
