"""How cars move along the road: stop-and-go speed profiles that can be asked at any time."""

from dataclasses import dataclass

import numpy as np

KNOT_SECONDS = 4.0


class SpeedProfile:
    """Speed v(t) through random knots every 4 s, and its exact integral.

    Between knots v = v_k + (v_{k+1} - v_k)(3u^2 - 2u^3). A stop may last several knots; reversing
    begins and ends with a stop, so the distance has its extremes at knots.

    Args:
        seed: of the knots.
        cruise: range of speeds while driving, m/s.
        stop: probability that a driving car stops at the next knot.
        reverse: probability that a standing car reverses next.
    """

    def __init__(
        self, seed: tuple[int, ...], *, cruise: tuple[float, float], stop: float, reverse: float
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._cruise, self._stop, self._reverse = cruise, stop, reverse
        self._speeds = [0.0 if self._rng.random() < stop else self._rng.uniform(*cruise)]
        self._distances, self._furthest = [0.0], [0.0]

    def speed(self, time: float) -> float:
        """Return v in m/s at a time in seconds, at least 0."""
        knot, u = self._locate(time)
        a, b = self._speeds[knot : knot + 2]
        return a + (b - a) * u * u * (3 - 2 * u)

    def acceleration(self, time: float) -> float:
        """Return dv/dt in m/s^2."""
        knot, u = self._locate(time)
        a, b = self._speeds[knot : knot + 2]
        return (b - a) * 6 * u * (1 - u) / KNOT_SECONDS

    def distance(self, time: float) -> float:
        """Return the integral of v from 0, in metres."""
        knot, u = self._locate(time)
        a, b = self._speeds[knot : knot + 2]
        return self._distances[knot] + KNOT_SECONDS * (a * u + (b - a) * (u**3 - u**4 / 2))

    def furthest(self, time: float) -> float:
        """Return the largest distance reached up to a time."""
        knot, _ = self._locate(time)
        return max(self._furthest[knot], self.distance(time))

    def time_at(self, distance: float) -> float:
        """Return when a distance is first reached; before 0 as if at the first speed (1 m/s)."""
        if distance <= 0:
            return distance / max(1.0, self._speeds[0])
        knot = 1
        while self._locate(KNOT_SECONDS * knot) and self._furthest[knot] < distance:
            knot += 1
        low, high = KNOT_SECONDS * (knot - 1), KNOT_SECONDS * knot
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (middle, high) if self.furthest(middle) < distance else (low, middle)
        return high

    def _locate(self, time: float) -> tuple[int, float]:
        knot = int(time // KNOT_SECONDS)
        while len(self._speeds) < knot + 2:
            self._append_knot()
        return knot, time / KNOT_SECONDS - knot

    def _append_knot(self) -> None:
        now, draw = self._speeds[-1], self._rng.random()
        speed = float(self._rng.uniform(*self._cruise))
        if now < 0 or (now > 0 and draw < self._stop):
            following = 0.0
        elif now == 0 and draw < self._reverse:
            following = -float(self._rng.uniform(1.0, 3.0))
        elif now == 0 and draw < self._reverse + 0.35:
            following = 0.0
        else:
            following = speed
        self._speeds.append(following)
        self._distances.append(self._distances[-1] + KNOT_SECONDS * (now + following) / 2)
        self._furthest.append(max(self._furthest[-1], self._distances[-1]))


@dataclass(frozen=True)
class Waves:
    """A smooth random function: sum of amplitude sin(frequency x + phase), with its integrals."""

    amplitudes: tuple[float, ...]
    frequencies: tuple[float, ...]
    phases: tuple[float, ...]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, size: float, wavelengths: tuple[float, float], count: int
    ) -> "Waves":
        """Return `count` waves with a root mean square of `size`, wavelengths spread evenly."""
        lengths = np.geomspace(*wavelengths, count) * rng.uniform(0.85, 1.15, count)
        amplitudes = rng.uniform(0.5, 1.0, count)
        amplitudes *= size / np.sqrt((amplitudes**2).sum() / 2)
        phases = rng.uniform(0, 2 * np.pi, count)
        frequencies = 2 * np.pi / lengths
        return cls(*(tuple(map(float, x)) for x in (amplitudes, frequencies, phases)))

    def at(self, x: float | np.ndarray, integrals: int = 0) -> np.ndarray:
        """Return the function, or its first or second integral; -1 asks for its derivative."""
        a, w, p = (np.array(v) for v in (self.amplitudes, self.frequencies, self.phases))
        angle = np.multiply.outer(np.asarray(x), w) + p - integrals * np.pi / 2
        return np.asarray((a * w**-integrals * np.sin(angle)).sum(axis=-1))
