import numpy as np
import pytest

from legato.evaluation.flicker_spectrum import SEGMENT_FRAMES, FlickerSpectrum, frequencies


def amplitudes(signal):
    spectrum = FlickerSpectrum()
    for value in signal:
        spectrum.add(np.full((2, 3), value))
    return spectrum.amplitudes()


@pytest.mark.parametrize("num_frames", [8, 32, 70])
def test_alternating_brightness_has_its_amplitude_at_the_highest_frequency(num_frames):
    found = amplitudes(100 + 6 * (-1.0) ** np.arange(num_frames))
    places = frequencies(len(found), num_frames)
    assert (places[-1], found.argmax()) == (0.5, len(found) - 1)
    assert found[-1] == pytest.approx(6, rel=0.05)


def test_a_slow_wave_has_its_amplitude_at_its_frequency():
    found = amplitudes(5 * np.cos(2 * np.pi * np.arange(64) * 4 / SEGMENT_FRAMES))
    assert (found.argmax(), found[4]) == (4, pytest.approx(5, rel=0.02))


def test_steady_brightness_has_none_and_short_clips_say_nothing():
    assert np.allclose(amplitudes([80.0] * 9), 0)
    assert amplitudes([1.0, 2.0]).size == 0


def test_power_is_the_mean_over_segments_and_blocks():
    alternating = 6 * (-1.0) ** np.arange(SEGMENT_FRAMES)
    found = amplitudes([*alternating, *np.zeros(SEGMENT_FRAMES)])
    assert found[-1] == pytest.approx(6 / 2**0.5, rel=0.05)
    spectrum = FlickerSpectrum()
    for value in alternating:
        spectrum.add(np.array([[value, 0, 0, 0]]))
    assert spectrum.amplitudes()[-1] == pytest.approx(6 / 4**0.5, rel=0.05)


def test_places_of_different_brightness_do_not_flicker():
    spectrum = FlickerSpectrum()
    for _ in range(9):
        spectrum.add(np.array([[0.0, 90.0], [200.0, 20.0]]))
    assert np.allclose(spectrum.amplitudes(), 0)
