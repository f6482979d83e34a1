"""What stands beside the road: houses, trees, lamps, poles, rails, fences, signs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from legato.training.driving.canvas import Canvas
from legato.training.driving.labels import Labels
from legato.training.driving.road import CROSSING_M, Road
from legato.training.driving.textures import NUM_FACADES, NUM_TREES, facade, tree

SLOT_M = 12.0
REACH_M = 170.0


@dataclass(frozen=True)
class Item:
    """Something that stands at s and can be drawn."""

    s: float
    draw: Callable[[Canvas], None]


class Scenery:
    """All that stands beside a road, in slots of 12 m, each from its own random numbers.

    Args:
        seed: of the world.
        road: along which it stands.
        labels: what place it is, and whether it snows.
    """

    def __init__(self, seed: int, road: Road, labels: Labels) -> None:
        rng = np.random.default_rng((seed, 10))
        self.seed, self.road, self.place = seed, road, labels.place
        self.snowy = labels.weather == "snow"
        autumn = rng.random() < 0.3
        leaf = rng.uniform((0.16, 0.3, 0.08), (0.34, 0.48, 0.18))
        self.leaf = rng.uniform((0.5, 0.25, 0.05), (0.75, 0.45, 0.15)) if autumn else leaf
        self.conifers = float(rng.uniform(0, 1))
        self.rail = labels.place == "highway" or rng.random() < 0.25
        self.fence = labels.place == "country" and rng.random() < 0.5
        self.slot = lru_cache(maxsize=256)(self._slot)

    def around(self, here: float) -> list[Item]:
        """Return what stands from the camera's place to `REACH_M` ahead."""
        slots = range(int(here // SLOT_M), int((here + REACH_M) // SLOT_M))
        return [item for k in slots for side in (-1, 1) for item in self.slot(k, side)]

    def _slot(self, k: int, side: int) -> list[Item]:
        rng = np.random.default_rng((self.seed, 11, k + (1 << 20), side + 1))
        s = k * SLOT_M
        middle = s + SLOT_M / 2
        reach = SLOT_M / 2 + CROSSING_M / 2 + 1
        if self.road.crossings(middle - reach, middle + reach):
            return [self._sign(s, side, rng)] if side == 1 else []
        edge = self.road.layout.half_m + self.road.layout.pavement_m
        if self.place == "city":
            return self._street(s, side, edge, rng)
        items = []
        density, nearest = {"country": (1.3, 4.0), "forest": (7.0, 2.2), "highway": (2.0, 6.0)}[
            self.place
        ]
        for _ in range(int(rng.poisson(density))):
            away = edge + nearest + float(rng.exponential(6.0))
            items.append(self._tree(s + SLOT_M * rng.random(), side * away, rng, 1.0))
        if self.place == "country" and rng.random() < 0.14:
            items.append(self._house(s, side, edge + float(rng.uniform(7, 22)), rng))
        if self.place == "highway" and k % 4 == 0:
            items.append(self._lamp(s, side * (edge + 1.2), side))
        if self.place == "highway" and k % 37 == 5 and side == 1:
            items.append(self._gantry(s, edge, rng))
        if self.place in ("country", "forest") and k % 3 == 0 and side == 1:
            items.append(self._pole(s, edge + 3.5))
        if self.place != "highway" and k % 2 == 0:
            items.append(self._post(s, side * (edge + 0.8)))
        if self.rail and (self.place == "highway" or k % 9 < 4):
            items.append(self._rail(s, side * (edge + 0.35)))
        elif self.fence and side == 1:
            items.append(self._rail(s, edge + 3.0, wood=True))
        return items

    def _street(self, s: float, side: int, edge: float, rng: np.random.Generator) -> list[Item]:
        items = []
        if rng.random() < 0.86:
            items.append(self._building(s, side, edge + 0.6 + rng.choice([0, 0, 3.0]), rng))
        else:
            for _ in range(4):
                at = s + SLOT_M * rng.random()
                items.append(self._tree(at, side * (edge + rng.uniform(1, 9)), rng, 0.9))
        if round(s / 6) % 5 == 0:
            items.append(self._lamp(s + 0.2, side * (edge - 2.1), side))
        elif rng.random() < 0.35:
            items.append(self._tree(s + 4, side * (edge - 1.3), rng, 0.62))
        return items

    def _tree(self, s: float, l: float, rng: np.random.Generator, scale: float) -> Item:  # noqa: E741
        number = 2 * int(rng.integers(NUM_TREES // 2)) + int(rng.random() < self.conifers)
        tall = scale * float(rng.uniform(5.0, 10.5))
        leaf = np.array((0.13, 0.24, 0.14)) if number % 2 else self.leaf
        leaf = leaf * rng.uniform(0.8, 1.25)
        if self.snowy:
            leaf = leaf * 0.45 + 0.42
        size = (tall * (0.62 if number % 2 else 0.9), tall)
        foot = np.array((s, l, 0.0))
        return Item(s, lambda canvas: canvas.sprite(tree(number), foot, size, leaf))

    def _building(self, s: float, side: int, edge: float, rng: np.random.Generator) -> Item:
        front, flank = (
            facade(int(rng.integers(NUM_FACADES))),
            facade(int(rng.integers(NUM_FACADES))),
        )
        height = max(front.height_m, 7.0) * float(rng.uniform(0.85, 1.2))
        length, inner, outer = (
            SLOT_M * float(rng.uniform(0.86, 1.0)),
            side * edge,
            side * (edge + 13),
        )
        street = _rectangle((s, inner), (s + length, inner), height)
        end = _rectangle((s, inner), (s, outer), height)
        if side == -1:
            street = street[[1, 0, 3, 2]]
            end = end[[1, 0, 3, 2]]

        def draw(canvas: Canvas) -> None:
            canvas.wall(end, flank, 0.72)
            canvas.wall(street, front, 1.0 if side == 1 else 0.86)

        return Item(s + 0.5 * length, draw)

    def _house(self, s: float, side: int, edge: float, rng: np.random.Generator) -> Item:
        wall = facade(int(rng.integers(NUM_FACADES)))
        height, length, depth = 4.2, 9.0, 8.0
        inner, outer = side * edge, side * (edge + depth)
        street = _rectangle((s, inner), (s + length, inner), height)
        end = _rectangle((s, inner), (s, outer), height)
        if side == -1:
            street, end = street[[1, 0, 3, 2]], end[[1, 0, 3, 2]]
        middle, top = (inner + outer) / 2, height + 3.4
        gable = np.array([(s, inner, height), (s, outer, height), (s, middle, top)])
        roof = np.array([(s, inner, height), (s + length, inner, height)])
        roof = np.array([*roof, (s + length, middle, top), (s, middle, top)])
        tiles = np.array((0.85, 0.86, 0.9) if self.snowy else (0.45, 0.2, 0.15))
        plaster = wall.paint[-1].mean(axis=(0, 1))

        def draw(canvas: Canvas) -> None:
            z = max(2.0, s - canvas.camera.s)
            canvas.wall(end, wall, 0.75)
            canvas.polygon(gable, canvas.shade(0.8 * plaster, inner, z))
            canvas.wall(street, wall, 1.0)
            canvas.polygon(roof, canvas.shade(tiles, inner, z))

        return Item(s + 0.5 * length, draw)

    def _lamp(self, s: float, l: float, side: int) -> Item:  # noqa: E741
        arm = l - side * 1.8
        metal = np.array((0.4, 0.42, 0.43))

        def draw(canvas: Canvas) -> None:
            _stick(canvas, (s, l), (0.0, 7.0), 0.12, metal)
            _bar(canvas, s, (l, arm), (6.9, 7.05), metal)
            head = np.array((s, arm, 6.85))
            if canvas.air.dark:
                canvas.glow(head, canvas.air.dark * np.array((1, 0.82, 0.5)), 0.55, streak=True)

        return Item(s, draw)

    def _pole(self, s: float, l: float) -> Item:  # noqa: E741
        wood = np.array((0.33, 0.27, 0.2))
        ends = [(s, l + d, 6.6) for d in (-0.7, 0.7)]

        def draw(canvas: Canvas) -> None:
            _stick(canvas, (s, l), (0.0, 7.2), 0.16, wood)
            _bar(canvas, s, (l - 0.9, l + 0.9), (6.5, 6.65), wood)
            for _, d, y in ends:  # the wire to the next pole hangs through
                for a, b in ((0, 12), (12, 24), (24, 36)):
                    sag = [y - 0.9 * (x / 36) * (1 - x / 36) * 4 for x in (a, b)]
                    wire = [(s + a, d, sag[0]), (s + b, d, sag[1])]
                    wire += [(s + b, d, sag[1] + 0.05), (s + a, d, sag[0] + 0.05)]
                    z = max(2.0, s + a - canvas.camera.s)
                    canvas.polygon(np.array(wire), canvas.shade(0.4 * wood, d, z), 0.7)

        return Item(s, draw)

    def _post(self, s: float, l: float) -> Item:  # noqa: E741
        white, glass = np.array((0.85, 0.85, 0.85)), np.array((0.9, 0.35, 0.1))

        def draw(canvas: Canvas) -> None:
            _stick(canvas, (s, l), (0.0, 0.95), 0.12, white)
            _stick(canvas, (s, l), (0.6, 0.78), 0.12, glass * (1 + canvas.air.dark))

        return Item(s, draw)

    def _rail(self, s: float, l: float, *, wood: bool = False) -> Item:  # noqa: E741
        paint = np.array((0.4, 0.31, 0.22) if wood else (0.62, 0.64, 0.66))
        heights = ((0.5, 0.62), (0.95, 1.07)) if wood else ((0.45, 0.78),)
        post = 0.9 * paint

        def draw(canvas: Canvas) -> None:
            z = max(1.5, s - canvas.camera.s + 3)
            for a in (9, 6, 3, 0):
                _stick(canvas, (s + a, l), (0.0, heights[-1][1]), 0.12, post)
            for low, high in heights:
                band = [(s, l, low), (s + SLOT_M, l, low), (s + SLOT_M, l, high), (s, l, high)]
                canvas.polygon(np.array(band), canvas.shade(paint, l, z))
                middle = (low + high) / 2
                groove = [(*p[:2], min(p[2], middle)) for p in band]
                canvas.polygon(np.array(groove), canvas.shade(0.72 * paint, l, z))

        return Item(s + SLOT_M / 2, draw)

    def _sign(self, s: float, side: int, rng: np.random.Generator) -> Item:
        l = side * (self.road.layout.half_m + 0.9)  # noqa: E741
        paint = np.array([(0.75, 0.1, 0.08), (0.1, 0.25, 0.65), (0.9, 0.75, 0.1)][rng.integers(3)])

        def draw(canvas: Canvas) -> None:
            _stick(canvas, (s, l), (0.0, 2.6), 0.1, np.array((0.5, 0.5, 0.5)))
            angles = np.linspace(0, 2 * np.pi, 8, endpoint=False) + np.pi / 8
            for radius, colour in ((0.5, paint), (0.3, np.array((0.9, 0.9, 0.9)))):
                disc = [(s, l + radius * np.cos(t), 2.3 + radius * np.sin(t)) for t in angles]
                z = max(2.0, s - canvas.camera.s)
                canvas.polygon(np.array(disc), canvas.shade(colour, l, z))

        return Item(s, draw)

    def _gantry(self, s: float, edge: float, rng: np.random.Generator) -> Item:
        metal, board = np.array((0.45, 0.47, 0.5)), np.array((0.08, 0.28, 0.6))
        if rng.random() < 0.4:
            board = np.array((0.05, 0.4, 0.2))
        inner = self.road.layout.median_m / 2

        def draw(canvas: Canvas) -> None:
            for l in (0.0, edge + 0.8):  # noqa: E741
                _stick(canvas, (s, l), (0.0, 6.6), 0.3, metal)
            _bar(canvas, s, (0.0, edge + 0.8), (6.2, 6.6), metal)
            _bar(canvas, s, (inner + 0.6, edge - 2.4), (5.3, 7.3), board * 1.25)
            for line in (5.7, 6.3, 6.8):
                _bar(canvas, s, (inner + 1.1, edge - 3.4), (line, line + 0.22), np.full(3, 0.85))

        return Item(s, draw)


def _rectangle(a: tuple[float, float], b: tuple[float, float], height: float) -> np.ndarray:
    return np.array([(*a, 0.0), (*b, 0.0), (*b, height), (*a, height)])


def _stick(
    canvas: Canvas,
    foot: tuple[float, float],
    heights: tuple[float, float],
    width_m: float,
    paint: np.ndarray,
) -> None:
    _bar(canvas, foot[0], (foot[1] - width_m / 2, foot[1] + width_m / 2), heights, paint)


def _bar(
    canvas: Canvas,
    s: float,
    across: tuple[float, float],
    heights: tuple[float, float],
    paint: np.ndarray,
) -> None:
    """Draw an upright rectangle across the road; thinner than a pixel, it is blended."""
    camera = canvas.camera
    z = s - camera.s
    if z < 1.0:
        return
    (a, b), (low, high) = across, heights
    thin = min(abs(b - a), high - low) * camera.focal / z
    corners = np.array([(s, a, low), (s, b, low), (s, b, high), (s, a, high)])
    seen = camera.project(corners)
    if thin < 1.0:  # one pixel wide, as opaque as it is thin
        axis = 0 if abs(b - a) < high - low else 1
        centre = seen[:, axis].mean()
        seen[:, axis] = centre + np.sign(seen[:, axis] - centre) * 0.5
    x = float(0.5 * (a + b) + camera.bend(np.array([z]))[0])
    canvas.fill(seen, canvas.shade(paint, x, z), min(1.0, thin))
