"""Sound for containers that hold no times for it, but play it without a break from their 0 on."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

SOUND_SLACK = Fraction(1, 50)  # seconds; times are rounded, and codecs have lead-ins
AUDIBLE_SLIP = Fraction(1, 10)  # seconds between sound and picture


class SilenceFiller:
    """Makes sound unbroken: silence where there is none, and one sound only where two overlap.

    Args:
        begin: the source time, in seconds, of the first sample that is given out.
        rate: samples per second of all frames.
    """

    def __init__(self, begin: Fraction, rate: int) -> None:
        self.begin, self.rate = begin, rate
        self.num_samples = 0

    def frames(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """Yield a frame with silence before it, or the part of it that is not there yet."""
        samples = frame.to_ndarray()
        missing = 0
        if frame.pts is not None and frame.time_base is not None:
            place = round((frame.pts * frame.time_base - self.begin) * self.rate)
            missing = place - self.num_samples
        width = samples.shape[1] // frame.samples
        silence = 128 if samples.dtype == np.uint8 else 0
        while missing > SOUND_SLACK * self.rate:
            size = min(missing, self.rate)
            empty = np.full((len(samples), size * width), silence, samples.dtype)
            yield self._follow_on(empty, size, like=frame)
            missing -= size
        late = -missing if -missing > SOUND_SLACK * self.rate else 0
        if late < frame.samples:
            yield self._follow_on(samples[:, late * width :], frame.samples - late, like=frame)

    def _follow_on(
        self, samples: NDArray[Any], num_samples: int, *, like: AudioFrame
    ) -> AudioFrame:
        frame = AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format=like.format.name, layout=like.layout.name
        )
        frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
        frame.pts = round(self.begin * self.rate) + self.num_samples
        self.num_samples += num_samples
        return frame


@dataclass(slots=True)
class UntimedCopy:
    """Sound copied to where it plays without a break; how far that puts it out of step."""

    label: str
    begin: Fraction
    played: Fraction = Fraction(0)
    worst: Fraction = Fraction(0)

    def packets(self, packet: Any) -> Iterator[Any]:  # noqa: ANN401
        """Pass a packet on; None at the end of the stream."""
        if packet is None:
            return
        if packet.pts is not None:
            slip = packet.pts * packet.time_base - self.begin - self.played
            self.worst = max(self.worst, slip, key=abs)
        self.played += (packet.duration or 0) * packet.time_base
        yield packet

    def notices(self, suffix: str) -> list[str]:
        """Return a sentence where the sound may be out of step for anyone to notice."""
        if abs(self.worst) <= AUDIBLE_SLIP:
            return []
        moved = f"may be out of step by up to {abs(float(self.worst)):.2f} s"
        return [f"{self.label}: {moved}, as {suffix} holds no times for it; use .mkv"]
