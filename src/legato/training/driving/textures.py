"""Textures that all worlds share, made once from fixed seeds: grain, facades, trees."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

GRAIN_TEXELS, GRAIN_M = 256, 0.125
"""Size of the ground's grain, and metres per texel."""
GRAIN_LEVELS = 9
"""Level k is averaged over 2^k texels along the road."""


def periodic_noise(
    rng: np.random.Generator, rows: int, columns: int, cells: tuple[int, int], octaves: int = 5
) -> np.ndarray:
    """Return fractal noise about 0, standard deviation 1, that repeats in both directions.

    Args:
        rng: where it comes from.
        rows: its size, and
        columns: likewise.
        cells: how many bumps of the coarsest octave there are down and across.
        octaves: each twice as fine and 0.6 times as high as the one before.
    """
    total = np.zeros((rows, columns), np.float32)
    for octave in range(octaves):
        down, across = (min(c << octave, n) for c, n in zip(cells, (rows, columns), strict=True))
        small = np.pad(rng.standard_normal((down, across)).astype(np.float32), 2, mode="wrap")
        scale = (rows / down, columns / across)
        size = (round(small.shape[1] * scale[1]), round(small.shape[0] * scale[0]))
        large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
        top, left = round(2 * scale[0]), round(2 * scale[1])
        total += 0.6**octave * large[top : top + rows, left : left + columns]
    return np.asarray((total - total.mean()) / total.std(), np.float32)


@cache
def ground_grain() -> np.ndarray:
    """Return an atlas of levels below each other, 3 channels: earth, asphalt, large patches.

    Each level repeats; one row of the next period is added above and below it.
    """
    rng = np.random.default_rng(7001)
    size = GRAIN_TEXELS
    earth = periodic_noise(rng, size, size, (8, 8), 6) + 0.7 * rng.standard_normal((size, size))
    tar = 0.9 * rng.standard_normal((size, size)) + periodic_noise(rng, size, size, (6, 12), 5)
    for _ in range(5):  # repaired places
        s, l, h, w = rng.integers((0, 0, 10, 8), (size, size, 40, 26))  # noqa: E741
        tar[s : s + h, l : l + w] -= rng.uniform(-0.8, 1.6)
    for _ in range(9):  # cracks
        walk = np.cumsum(rng.integers(-1, 2, (70, 2)), axis=0) + rng.integers(0, size, 2)
        tar[walk[:, 0] % size, walk[:, 1] % size] -= 4.0
    patches = periodic_noise(rng, size, size, (3, 3), 3)
    level = np.stack([earth, tar, patches], axis=-1).astype(np.float32)
    levels = []
    for k in range(GRAIN_LEVELS):
        along, across = 1 << k, max(1, (1 << k) // 16)
        wrapped = np.pad(level, ((size, size), (size, size), (0, 0)), mode="wrap")
        smooth = cv2.blur(wrapped, (across, along))[size:-size, size:-size]
        levels.append(np.pad(smooth, ((1, 1), (0, 0), (0, 0)), mode="wrap"))
    return np.concatenate(levels)


@dataclass(frozen=True)
class Facade:
    """A house front at several sizes, largest first: colours of paint, and lit windows."""

    paint: list[np.ndarray]
    """(H, W, 3) float32, reflectance."""
    windows: list[np.ndarray]
    """(H, W, 3) float32, what windows give off at night."""
    width_m: float
    height_m: float


NUM_FACADES = 14


@cache
def facade(number: int) -> Facade:
    """Return facade 0 to `NUM_FACADES` - 1."""
    rng = np.random.default_rng((7002, number))
    floors, bays = int(rng.integers(2, 8)), int(rng.integers(3, 6))
    scale = 20  # texels per bay and floor
    h, w = floors * scale, bays * scale
    wall = np.array(_WALLS[number % len(_WALLS)], np.float32) * rng.uniform(0.8, 1.1)
    grain = periodic_noise(rng, h, w, (2, 2), 5)[..., None]
    paint = wall * (1 + 0.07 * grain) * np.ones((h, w, 3), np.float32)
    windows = np.zeros((h, w, 3), np.float32)
    brick = number % 3 == 0
    if brick:
        paint[::3] *= 0.86
    paint[::scale] *= 0.7  # ledges
    glass = np.array((0.16, 0.2, 0.26), np.float32)
    tall, wide = int(rng.integers(9, 14)), int(rng.integers(7, 15))
    for floor in range(floors):
        for bay in range(bays):
            top, left = floor * scale + 4, bay * scale + (scale - wide) // 2
            if floor == floors - 1 and number % 2:  # shops
                top, left, t, d = floor * scale + 6, bay * scale + 2, 12, 16
            else:
                t, d = tall, wide
            pane = (slice(top, top + t), slice(left, left + d))
            paint[top - 1 : top + t + 1, left - 1 : left + d + 1] = wall * 1.25  # frame
            paint[pane] = glass * rng.uniform(0.6, 1.7)
            paint[top : top + t // 3, left : left + d] *= 1.3  # sky in the glass
            if rng.random() < 0.4:
                lamp = np.array((1.0, rng.uniform(0.7, 0.9), rng.uniform(0.35, 0.7)))
                windows[pane] = lamp * rng.uniform(0.35, 1.0)
    if number % 2:
        colour = rng.uniform(0.15, 0.8, 3)
        paint[-scale + 2 : -scale + 6] = colour  # shop sign
        windows[-scale + 2 : -scale + 6] = 0.7 * colour
    paints, lit = [paint.clip(0, 1)], [windows]
    while min(paints[-1].shape[:2]) > 8:
        half = (paints[-1].shape[1] // 2, paints[-1].shape[0] // 2)
        paints.append(cv2.resize(paints[-1], half, interpolation=cv2.INTER_AREA))
        lit.append(cv2.resize(lit[-1], half, interpolation=cv2.INTER_AREA))
    return Facade(paints, lit, 3.2 * bays, 3.2 * floors)


_WALLS = (
    (0.55, 0.3, 0.24),
    (0.72, 0.66, 0.55),
    (0.6, 0.6, 0.62),
    (0.78, 0.72, 0.6),
    (0.45, 0.38, 0.34),
    (0.64, 0.5, 0.4),
    (0.5, 0.55, 0.6),
)


@dataclass(frozen=True)
class Sprite:
    """A flat cut-out at several sizes, largest first."""

    layers: list[np.ndarray]
    """(H, W, 3) float32: brightness times coverage, coverage, and coverage by wood."""


NUM_TREES = 10


@cache
def tree(number: int) -> Sprite:
    """Return tree 0 to `NUM_TREES` - 1: even ones are broad-leaved, odd ones conifers."""
    rng = np.random.default_rng((7003, number))
    size = 96
    shade, cover = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    wood = np.zeros((size, size), np.float32)
    cv2.line(wood, (48, 95), (48 + int(rng.integers(-3, 4)), 45), 1.0, int(rng.integers(4, 7)))
    conifer = number % 2 == 1
    for _ in range(260 if conifer else 170):
        if conifer:
            y = rng.uniform(4, 84)
            x = 48 + rng.uniform(-1, 1) * (y * 0.36 + 2)
            r = rng.uniform(2, 4.5)
        else:
            angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1) ** 0.6
            lobes = 1 + 0.18 * np.sin(3 * angle + number)
            x, y = 48 + 38 * radius * lobes * np.cos(angle), 36 + 31 * radius * np.sin(angle)
            r = rng.uniform(2.5, 6)
        light = 0.62 + 0.42 * ((48 - x) / 60 + (38 - y) / 60) + rng.uniform(-0.24, 0.24)
        cv2.circle(shade, (int(x), int(y)), int(r), float(np.clip(light, 0.2, 1.3)), -1)
        cv2.circle(cover, (int(x), int(y)), int(r), 1.0, -1)
    wood *= 1 - cover
    cover = np.maximum(cover, wood)
    shade = np.where(wood > 0, 0.55, shade)
    layers = [np.stack([shade * cover, cover, wood], axis=-1)]
    while layers[-1].shape[0] > 6:
        half = (layers[-1].shape[1] // 2,) * 2
        layers.append(cv2.resize(layers[-1], half, interpolation=cv2.INTER_AREA))
    return Sprite(layers)
