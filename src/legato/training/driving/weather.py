"""Light and air: how bright things are, what distance does to them, rain and snow."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from legato.training.driving.labels import Labels
from legato.training.driving.road import NEAR_M, Camera

_WARM = np.array((1.0, 0.93, 0.78), np.float32)


@dataclass(frozen=True, kw_only=True)
class Air:
    """Light of a scene, constant over its life; colours are RGB in [0, 1]."""

    ambient: np.ndarray
    zenith: np.ndarray
    haze: np.ndarray
    """The sky just above the horizon, and what distant things fade into."""
    visibility_m: float
    """Distance over which contrast falls to 1/e."""
    dark: float
    """0 by day, 1 by night: how much lamps count."""
    wet: float
    snow: float

    def clearness(self, z: np.ndarray | float) -> np.ndarray:
        """Return the share of light that z metres of air let pass."""
        return np.asarray(np.exp(-np.asarray(z, np.float32) / self.visibility_m))

    def headlight(self, x: np.ndarray | float, z: np.ndarray | float) -> np.ndarray:
        """Return what the own headlights add x metres to the right and z metres ahead."""
        if not self.dark:
            return np.zeros(1, np.float32)
        z = np.maximum(np.asarray(z, np.float32), NEAR_M)
        beam = np.exp(-((np.asarray(x, np.float32) / (0.42 * z + 1.2)) ** 2))
        return np.asarray(self.dark * 0.75 * beam * np.exp(-z / 28))

    def light(self, x: float, z: float) -> np.ndarray:
        """Return the colour of the light that falls on a thing there."""
        if not self.dark:
            return self.ambient
        return np.asarray(self.ambient + self.headlight(x, z)[..., None] * _WARM).reshape(3)

    def through(self, colour: np.ndarray, z: float) -> np.ndarray:
        """Return a colour as it looks from z metres away."""
        clear = math.exp(-z / self.visibility_m)
        return np.asarray(colour * clear + self.haze * (1 - clear))


def air_of(labels: Labels, rng: np.random.Generator) -> Air:
    """Return the light of a scene with these labels."""
    grey = {"clear": 0.0, "rain": 0.75, "fog": 1.0, "snow": 0.8}[labels.weather]
    visibility = {"clear": 420.0, "rain": 140.0, "fog": 26.0, "snow": 75.0}[labels.weather]
    if labels.daytime == "day":
        zenith, haze, ambient = (0.25, 0.45, 0.82), (0.75, 0.84, 0.93), (1.0, 0.98, 0.93)
        dull = (0.62, 0.64, 0.67)
    elif labels.daytime == "dusk":
        zenith, haze, ambient = (0.22, 0.22, 0.45), (0.95, 0.56, 0.34), (0.58, 0.44, 0.42)
        dull = (0.45, 0.38, 0.4)
    else:
        zenith, haze, ambient = (0.01, 0.015, 0.05), (0.06, 0.07, 0.12), (0.10, 0.115, 0.17)
        dull = (0.09, 0.095, 0.11)
    near = np.array(dull, np.float32)
    return Air(
        ambient=np.array(ambient, np.float32) * (1 - 0.25 * grey) * rng.uniform(0.9, 1.08),
        zenith=np.array(zenith, np.float32) * (1 - grey) + near * grey,
        haze=np.array(haze, np.float32) * (1 - grey) + near * 1.12 * grey,
        visibility_m=visibility * float(rng.uniform(0.8, 1.25)),
        dark={"day": 0.0, "dusk": 0.35, "night": 1.0}[labels.daytime],
        wet=float(labels.weather == "rain"),
        snow=float(labels.weather == "snow"),
    )


def draw_precipitation(
    picture: np.ndarray, seed: int, time: float, camera: Camera, air: Air
) -> None:
    """Draw rain or snow into (H, W, 3) uint8: particles that fall through a box ahead, in place.

    A streak joins where a particle is to where it was 1/60 s ago, seen from the moving camera.
    """
    if not (air.wet or air.snow):
        return
    rng = np.random.default_rng((seed, 9))
    count, fall, size = (110, 7.0, 0.012) if air.wet else (260, 1.3, 0.028)
    home = rng.uniform(0, 1, (count, 3))
    drift = 0.5 * np.sin(np.outer(time * (0.8 + home[:, 0]), (1, 0)))[:, :1] * air.snow
    x = (home[:, :1] * 14 + drift) % 14 - 7
    colour = 255 * np.minimum(air.haze * 1.15 + 0.12 + 0.25 * air.snow, 1.0)
    ends = []
    own = camera.road.own
    for moment in (time, max(0.0, time - 1 / 60)):
        back = own.distance(time) - own.distance(moment)  # unwrapped, so that streaks stay whole
        y = (home[:, 1:2] * 6 - fall * time) % 6 - 2 + fall * (time - moment)
        z = (home[:, 2:] * 11 - own.distance(time)) % 14 + 2.5 + back
        row = camera.horizon - camera.focal * y / z
        ends.append(np.hstack([camera.columns / 2 + camera.focal * x / z, row, z]))
    layer = picture.copy()
    for a, b in zip(*ends, strict=True):
        width = max(1, round(size * camera.focal / a[2]))
        points = (np.array((a[:2], b[:2])) * 16).astype(int).clip(-30000, 30000)
        cv2.line(layer, points[0], points[1], colour.tolist(), width, cv2.LINE_AA, 4)
    share = 0.32 if air.wet else 0.6
    cv2.addWeighted(layer, share, picture, 1 - share, 0, dst=picture)
