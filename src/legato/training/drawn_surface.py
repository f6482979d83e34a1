"""Clips with surfaces in them that people made: panels, windows, bricks, blinds, fences, towers.

Their lines are straight, thin and long, and what lies between is smooth: a network that knows too
few draws them crooked and strews texture between them. Drawn in perspective, never the same twice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from legato.training.drawn_foreground import FINENESS, Canvas, Clip, Frames, moving, random_palette

TILT = 0.35
"""How much nearer or farther a surface is in its corners than in its middle, at most."""
UPRIGHT_SHARE = 0.5
"""Of surfaces that are not turned."""
MOST_TOWERS = 8
MOST_SURFACES = 3

Plane = Float32[ndarray, "rows cols"]
Shade = Float32[ndarray, "3"]


@dataclass(frozen=True, slots=True)
class _Surface:
    """Where each drawn pixel lies on a plane, in pixels of the clip, and what is painted there."""

    u: Plane
    v: Plane
    colours: Float32[ndarray, "rows cols 3"]
    rng: np.random.Generator

    def period_px(self, smallest: float, largest: float) -> float:
        """Return a distance between repetitions, small ones as frequent as large ones."""
        return math.exp(self.rng.uniform(math.log(smallest), math.log(largest)))

    def along(self) -> Plane:
        """Return how far each pixel lies along a random direction, often an axis, in pixels."""
        angle = self.rng.choice((0.0, math.pi / 2, self.rng.uniform(0, math.pi)))
        return np.asarray(self.u * math.cos(angle) + self.v * math.sin(angle))

    def shade(self) -> Shade:
        """Return a difference of colour that can be seen, lighter or darker."""
        strength = self.rng.choice((-1, -1, 1)) * math.exp(self.rng.uniform(2.3, 5.0))
        return np.asarray(strength * self.rng.uniform(0.8, 1.2, 3), np.float32)

    def cells(self, width_px: float, height_px: float, offset: float) -> tuple[Plane, Plane, Plane]:
        """Divide the plane into cells; rows are shifted by `offset` widths against one another.

        Returns:
            Place within the cell along u and along v, 0 to 1, and a random number in [0, 1) of
            each cell.
        """
        row = np.floor(self.v / height_px)
        along = self.u / width_px + offset * row
        column = np.floor(along)
        dice = self.rng.random((64, 64), np.float32)
        return (
            along - column,
            self.v / height_px - row,
            dice[row.astype(int) % 64, column.astype(int) % 64],
        )

    def paint(self, how_much: Bool[ndarray, "rows cols"] | Plane, shade: Shade) -> None:
        """Add a difference of colour, wholly, in part or not at all."""
        self.colours[...] += how_much[..., None] * shade

    def cover(self, share: Plane, level: float) -> None:
        """Bring colours towards a grey level, by shares from 0 to 1."""
        self.colours[...] += (np.float32(level) - self.colours) * share[..., None]


def with_surfaces(clip: Clip, rng: np.random.Generator) -> Clip:
    """Return the clip behind drawn surfaces: one over all of it, a few, towers, or a fence.

    Args:
        clip: of one shot.
        rng: decides on everything.
    """
    frames: Frames = clip.astype(np.float32)
    kind = rng.choice(("all", "some", "towers", "fence"), p=(0.35, 0.25, 0.25, 0.15))
    canvas = Canvas.empty(clip.shape[1:3], random_palette(rng))
    rows, cols = canvas.alpha.shape
    match kind:
        case "all":
            _fill(canvas, (0, rows), (0, cols), rng)
        case "some":
            for _ in range(int(rng.integers(1, MOST_SURFACES + 1))):
                top, bottom = sorted(rng.integers(0, rows, 2).tolist())
                left, right = sorted(rng.integers(0, cols, 2).tolist())
                _fill(canvas, (top, bottom), (left, right), rng)
        case "towers":
            for _ in range(int(rng.integers(2, MOST_TOWERS + 1))):
                width = int(cols * rng.uniform(0.08, 0.35))
                left = int(rng.uniform(-0.05, 0.9) * cols)
                top = int(rng.uniform(0.05, 0.8) * rows)
                _fill(canvas, (top, rows), (max(left, 0), min(left + width, cols)), rng)
        case _:
            u, v = _plane((0, rows), (0, cols), rng)
            _fence(canvas, u, v, rng)
    colours, alpha = moving(canvas, clip.shape[:3], rng)
    frames += (colours - frames) * alpha
    return np.asarray(frames.clip(0, 255).round().astype(np.uint8))


def _fill(
    canvas: Canvas, rows: tuple[int, int], cols: tuple[int, int], rng: np.random.Generator
) -> None:
    """Draw a random surface over a rectangle of the canvas."""
    if rows[0] >= rows[1] or cols[0] >= cols[1]:
        return
    u, v = _plane(rows, cols, rng)
    base = random_palette(rng)[0].astype(np.float32)
    surface = _Surface(u, v, np.broadcast_to(base, (*u.shape, 3)).copy(), rng)
    _PAINTS[int(rng.integers(len(_PAINTS)))](surface)
    light = 1 + _slope(u, rng) + _slope(v, rng)
    painted = (surface.colours * light[..., None]).clip(0, 255)
    canvas.colours[slice(*rows), slice(*cols)] = painted.astype(np.uint8)
    canvas.alpha[slice(*rows), slice(*cols)] = 255


def _slope(along: Plane, rng: np.random.Generator) -> Plane:
    """Return a change of light along an axis of the surface: smooth, often slight."""
    strength = rng.choice((0.0, 0.1, 0.3))
    turned = along / rng.uniform(60, 300) + rng.uniform(0, 2 * math.pi)
    return np.asarray(strength * np.sin(turned), np.float32)


def _plane(
    rows: tuple[int, int], cols: tuple[int, int], rng: np.random.Generator
) -> tuple[Plane, Plane]:
    """Return u and v of the pixels of a rectangle on a random plane, in pixels of the clip."""
    y, x = np.mgrid[slice(*rows), slice(*cols)].astype(np.float32) / FINENESS
    y, x = y - y.mean(), x - x.mean()
    angle = 0.0 if rng.random() < UPRIGHT_SHARE else rng.uniform(0, math.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    reach = max(np.abs(x).max() + np.abs(y).max(), 1)
    tilt = rng.choice((0.0, 1.0, 1.0)) * rng.uniform(-TILT, TILT, 2) / reach
    depth = 1 + tilt[0] * x + tilt[1] * y
    return (along / depth).astype(np.float32), (across / depth).astype(np.float32)


def _lines(surface: _Surface) -> None:
    """Panels: one to three families of parallel joints, thin on smooth ground."""
    rng = surface.rng
    shade = surface.shade()
    for _ in range(int(rng.integers(1, 4))):
        along = surface.along()
        period = surface.period_px(4.0, 90.0)
        thickness = min(surface.period_px(0.4, 3.0), period / 3)
        surface.paint((along + rng.uniform(0, period)) % period < thickness, shade)
        if rng.random() < 0.3:
            shade = surface.shade()


def _joints(surface: _Surface) -> None:
    """Panels with gaps or bars between them: one to three families, thin, nearly black or white.

    A small frame shows a thin dark line as it shows a wide pale one. Real ones are mostly thin and
    dark, and unless they are drawn so, wide pale ones are learned.
    """
    rng = surface.rng
    for _ in range(int(rng.integers(1, 4))):
        along = surface.along()
        period, thickness = surface.period_px(9.0, 90.0), surface.period_px(0.7, 2.2)
        away = np.abs((along + rng.uniform(0, period)) % period - period / 2)
        share = ((thickness / 2 - away) * FINENESS + 0.5).clip(0, 1).astype(np.float32)
        level = rng.uniform(0, 60) if rng.random() < 0.8 else rng.uniform(200, 255)
        surface.cover(share * np.float32(rng.uniform(0.6, 1)), level)


def _windows(surface: _Surface) -> None:
    """Rows of windows, each lit or dark by itself, with a frame or without."""
    rng = surface.rng
    width, height = surface.period_px(2.5, 40.0), surface.period_px(2.5, 40.0)
    x, y, dice = surface.cells(width, height, 0.0)
    share_x, share_y = rng.uniform(0.3, 0.95, 2)
    inside = (x < share_x) & (y < share_y)
    surface.paint(inside, surface.shade())
    surface.paint(inside & (dice < rng.uniform(0, 0.5)), surface.shade())
    surface.paint(inside & (dice > rng.uniform(0.8, 1)), surface.shade())
    if rng.random() < 0.4:
        bars = np.abs(x - share_x / 2) * width < surface.period_px(0.3, 1.0)
        surface.paint(inside & bars, surface.shade())


def _bricks(surface: _Surface) -> None:
    """Bricks, tiles or a chequered floor: cells that differ slightly, with joints."""
    rng = surface.rng
    height = surface.period_px(3.0, 30.0)
    width = height * rng.uniform(0.7, 4)
    x, y, dice = surface.cells(width, height, float(rng.choice((0.0, 0.5))))
    surface.paint((dice - 0.5) * np.float32(rng.uniform(0, 1.5)), surface.shade())
    joint = surface.period_px(0.3, 2.0)
    surface.paint((x * width < joint) | (y * height < joint), surface.shade())


def _stripes(surface: _Surface) -> None:
    """Blinds, cladding, corduroy: light and dark in turn, hard or rounded."""
    rng = surface.rng
    period = surface.period_px(2.5, 30.0)
    along = surface.u if rng.random() < 0.5 else surface.v
    wave = np.sin(2 * math.pi / period * along + rng.uniform(0, 2 * math.pi))
    hardness = float(rng.choice((1.0, 3.0, 100.0)))
    level = np.tanh(hardness * (wave - rng.uniform(-0.6, 0.6)))
    surface.paint(level, surface.shade() / 2)


def _plain(surface: _Surface) -> None:
    """Nothing but light: a wall, a sky."""


def _fence(canvas: Canvas, u: Plane, v: Plane, rng: np.random.Generator) -> None:
    """Draw wires or bars in two directions, see-through between."""
    surface = _Surface(u, v, np.zeros((*u.shape, 3), np.float32), rng)
    period = surface.period_px(3.0, 40.0)
    angle = rng.choice((math.pi / 4, math.pi / 3, math.pi / 2))
    thickness = min(surface.period_px(0.4, 3.0), period / 3)
    drawn = (u * math.cos(angle) + v * math.sin(angle)) % period < thickness
    if rng.random() < 0.8:
        drawn |= (u * math.cos(angle) - v * math.sin(angle)) % period < thickness
    canvas.colours[:] = canvas.palette[0]
    canvas.alpha[drawn] = 255


_PAINTS: tuple[Callable[[_Surface], None], ...] = (
    *(_joints,) * 6,
    _lines,
    _lines,
    _windows,
    _windows,
    _bricks,
    _stripes,
    _plain,
)
