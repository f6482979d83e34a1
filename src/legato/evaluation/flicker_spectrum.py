"""How fast brightness flickers: the amplitude of each temporal frequency."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

SEGMENT_FRAMES = 32


class FlickerSpectrum:
    """Amplitude by temporal frequency of signals that come frame by frame.

    Segments of 32 frames (a shorter clip is one segment; what is left of a longer one is left out)
    without their mean, under a Hann window; root of the mean power over blocks and segments (Welch
    1967, doi:10.1109/TAU.1967.1161901, without overlap).
    """

    def __init__(self) -> None:
        self._segment: list[ndarray] = []
        self._powers: list[ndarray] = []

    def add(self, blocks: Float[ndarray, "rows cols"]) -> None:
        """Count one more frame, such as a clip's `block_luma` less the truth's; 8-bit units."""
        self._segment.append(blocks)
        if len(self._segment) == SEGMENT_FRAMES:
            self._powers.append(_power(np.stack(self._segment)))
            self._segment = []

    def amplitudes(self) -> Float[ndarray, "frequencies"]:
        """Return amplitudes in 8-bit units at 0, 1/T ... 1/2 cycles per frame, T <= 32 frames.

        A block that alternates between +a and -a has the amplitude a at 1/2. Nothing for a clip of
        less than three frames.
        """
        powers = self._powers
        if not powers and len(self._segment) > 2:
            powers = [_power(np.stack(self._segment))]
        return np.sqrt(np.mean(powers, axis=0)) if powers else np.zeros(0)


def frequencies(num_amplitudes: int, num_frames: int) -> Float[ndarray, "frequencies"]:
    """Return the frequencies of `amplitudes()`, in cycles per frame, for a clip's length."""
    return np.fft.rfftfreq(min(num_frames, SEGMENT_FRAMES))[:num_amplitudes]


def _power(blocks: Float[ndarray, "T rows cols"]) -> Float[ndarray, "frequencies"]:
    num_frames = len(blocks)
    window = np.hanning(num_frames + 2)[1:-1, None, None]
    spectrum = np.abs(np.fft.rfft(window * (blocks - blocks.mean(axis=0)), axis=0)) / window.sum()
    last = len(spectrum) - (num_frames % 2 == 0)  # half the sampling rate has no mirror image
    spectrum[1:last] *= 2
    return np.asarray(np.square(spectrum).mean(axis=(1, 2)))
