"""What is too far away to move: sky, clouds, sun or moon, stars, hills or a skyline."""

import cv2
import numpy as np

from legato.training.driving.labels import Labels
from legato.training.driving.road import Camera
from legato.training.driving.textures import periodic_noise
from legato.training.driving.weather import Air

TURN = 6.0
"""Circumference of the panorama in focal lengths; it repeats after that."""
_DRAWN = (79, 1106)
"""The most rows and columns of the grid on which stars, lights and treetops are drawn: of pictures
of 64x128 pixels, so that larger ones show the same."""


def panorama(
    rng: np.random.Generator, rows: int, columns: int, labels: Labels, air: Air
) -> np.ndarray:
    """Return (rows, columns, 3) uint8, periodic across; the bottom row is the horizon."""
    up = np.linspace(1, 0, rows, dtype=np.float32)[:, None, None] ** 0.7
    sky = air.haze + (air.zenith - air.haze) * up
    sky = np.broadcast_to(sky, (rows, columns, 3)).copy()
    _hang_lights(sky, rng, labels, air)
    clouds = periodic_noise(rng, rows, columns, (3, 12), 5)
    amount = {"clear": rng.uniform(-0.9, 0.3), "rain": 0.9, "fog": 0.2, "snow": 0.8}[labels.weather]
    cover = (1 / (1 + np.exp(-3.0 * (clouds + amount - 0.2))))[..., None]
    lit = np.clip(0.85 + 0.16 * clouds + 0.2 * np.roll(clouds, rows // 12, 0), 0.3, 1.3)[..., None]
    tone = {"day": (1.0, 1.0, 1.0), "dusk": (1.0, 0.62, 0.5), "night": (0.1, 0.1, 0.14)}
    bright = 0.62 if labels.weather in ("rain", "snow") else 0.92
    cloud = np.array(tone[labels.daytime]) * bright * lit
    sky += (cloud - sky) * cover * (0.75 if labels.weather != "fog" else 0.15)
    foggy = 0.92 if labels.weather == "fog" else 0.0
    for layer in range(3):
        _stand_ridge(sky, rng, layer, labels, air)
    sky += (air.haze - sky) * foggy
    return np.asarray((255 * sky).clip(0, 255), np.uint8)


def _hang_lights(sky: np.ndarray, rng: np.random.Generator, labels: Labels, air: Air) -> None:
    if labels.weather != "clear":
        return
    rows, columns = sky.shape[:2]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    height = {"day": rng.uniform(0.1, 0.3), "dusk": 0.85, "night": rng.uniform(0.2, 0.5)}
    cy, cx = height[labels.daytime] * rows, rng.uniform(0.2, 0.8) * columns
    away = np.hypot(x - cx, y - cy) / rows
    colour = {"day": (1.0, 1.0, 0.9), "dusk": (1.0, 0.75, 0.35), "night": (0.9, 0.9, 0.8)}
    size = 0.05 if labels.daytime != "dusk" else 0.08
    disc = np.clip((size - away) * rows + 0.5, 0, 1)
    halo = 0.5 * np.exp(-away / 0.22) * (1 if labels.daytime != "night" else 0.3)
    sky += (disc + halo)[..., None] * np.array(colour[labels.daytime])
    if labels.daytime == "night":
        stars = (rng.random(_grid(rows, columns)) > 0.9985).astype(np.float32)
        stars = cv2.resize(stars, (columns, rows), interpolation=cv2.INTER_NEAREST)
        sky += cv2.GaussianBlur(stars, (3, 3), 0.7)[..., None] * 1.4


def _stand_ridge(
    sky: np.ndarray, rng: np.random.Generator, layer: int, labels: Labels, air: Air
) -> None:
    """Draw a range of hills, woods or houses, nearer and lower with each layer, in place."""
    rows, columns = sky.shape[:2]
    near = (layer + 1) / 3
    line = periodic_noise(rng, 8, columns, (1, 10 * (layer + 1)), 6)[0]
    height = (0.3 - 0.075 * layer) + 0.07 * (1.2 - near) * line
    houses = labels.place == "city" and layer > 0
    if houses:
        width = columns // 64
        steps = rng.uniform(0.05, 0.34 if layer == 1 else 0.22, 64)
        height = np.repeat(steps, width)
        height = np.pad(height, (0, columns - len(height)), mode="wrap")
    elif labels.place == "forest":
        height = height * 0.7 + 0.05 + 0.02 * _across(rng, columns)
    top = (1 - height.clip(0.02, 0.8)) * rows
    cover = np.clip(np.arange(rows)[:, None] - top + 0.5, 0, 1)[..., None]
    green = np.array((0.25, 0.33, 0.2)) if not houses else np.array((0.42, 0.4, 0.4))
    if labels.weather == "snow":
        green = green * 0.4 + 0.45
    grain = 1 + 0.16 * periodic_noise(rng, rows, columns, (6, 60), 4)[..., None]
    haze = 0.75 - 0.25 * near
    colour = (green * air.ambient * grain) * (1 - haze) + air.haze * haze
    if houses and air.dark:
        lit = [count // 3 + 1 for count in _grid(rows, columns)]
        lights = (rng.random(lit) > 0.86).astype(np.float32)
        lights = cv2.resize(lights, (columns, rows), interpolation=cv2.INTER_NEAREST)
        colour = colour + 0.5 * air.dark * lights[..., None] * np.array((1, 0.8, 0.45))
    sky += (colour - sky) * cover


def _across(rng: np.random.Generator, columns: int) -> np.ndarray:
    """Return a random number for each column."""
    drawn = rng.random(_grid(1, columns)[1])
    return np.asarray(drawn[np.arange(columns) * len(drawn) // columns])


def _grid(rows: int, columns: int) -> tuple[int, int]:
    return min(rows, _DRAWN[0]), min(columns, _DRAWN[1])


def paint_sky(picture: np.ndarray, whole: np.ndarray, camera: Camera) -> None:
    """Paint the part of a panorama that the camera sees into (H, W, 3) uint8, in place."""
    rows, columns = whole.shape[:2]
    turned = camera.heading * camera.focal
    lowest = camera.horizon + 0.5 - camera.focal * float(camera.rise(np.array([300.0]))[0]) / 300.0
    height = min(camera.rows, int(np.ceil(lowest)) + 2)
    x = (np.arange(camera.columns, dtype=np.float32) + turned) % columns
    y = (np.arange(height, dtype=np.float32) - lowest + rows - 1).clip(0, rows - 1)
    across, down = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    seen = cv2.remap(whole, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    picture[:height] = seen
    picture[height:] = picture[height - 1]
