import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.errors import InputError
from legato.evaluation.lattice import lattice_energy, lattice_ratio


def natural(rows=128, cols=192, seed=0):
    rng = np.random.default_rng(seed)
    ky, kx = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(cols)[None]
    spectrum = (
        np.fft.fft2(rng.normal(size=(rows, cols))) / np.maximum(np.hypot(ky, kx), 1 / cols) ** 2
    )
    plane = np.fft.ifft2(spectrum).real
    plane = 128 + 40 * plane / plane.std() + rng.normal(0, 2, plane.shape)
    return np.repeat(plane[None, :, :, None], 3, axis=-1).clip(0, 255).astype(np.uint8)


def with_grid(clip, period, axis, strength=3):
    index = np.arange(clip.shape[axis])
    line = strength * (index % period == 0)
    shape = [1] * 4
    shape[axis] = -1
    return (clip.astype(float) + line.reshape(shape)).clip(0, 255).astype(np.uint8)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_natural_spectra_have_an_energy_of_about_one(seed):
    assert 0.6 < lattice_energy(natural(seed=seed)) < 2.0


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_grid_is_found_on_either_axis(period, axis):
    assert lattice_energy(with_grid(natural(), period, axis)) > 10


def test_a_grid_of_another_period_is_not_mistaken_for_it():
    assert lattice_energy(with_grid(natural(), 3, 2)) < 3


def test_rows_and_columns_beyond_a_multiple_of_four_do_not_count():
    clip = with_grid(natural(rows=131, cols=194), 4, 2)
    assert lattice_energy(clip) == lattice_energy(clip[:, :128, :192])


def test_stronger_grid_has_more_energy():
    energies = [lattice_energy(with_grid(natural(), 4, 2, s)) for s in (1, 2, 4)]
    assert energies == sorted(energies)


def test_ratio_never_divides_by_less_than_one():
    assert lattice_ratio(3.0, 0.5) == 3.0
    assert lattice_ratio(3.0, 2.0) == 1.5


def test_tiny_clips_are_refused():
    with pytest.raises(InputError, match="20x128"):
        lattice_energy(natural()[:, :, :20])
