"""Vehicles: solids of a few faces with wheels, windows, lights, and how one is drawn."""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np

from legato.training.driving.canvas import Canvas
from legato.training.driving.road import NEAR_M

Kind = Literal["car", "estate", "van", "truck", "bus", "motorbike"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PARTS = {
    "glass": (0.12, 0.15, 0.19),
    "dark": (0.07, 0.07, 0.08),
    "tail": (0.55, 0.05, 0.04),
    "head": (0.9, 0.9, 0.85),
    "plate": (0.85, 0.83, 0.7),
    "skin": (0.75, 0.55, 0.45),
    "box": (0.82, 0.82, 0.84),
    "trim": (0.42, 0.43, 0.45),
}


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """A vehicle at one time."""

    kind: Kind
    paint: tuple[float, float, float]
    s: float
    l: float  # noqa: E741 - the road coordinate
    heading: float
    """Radians to the right of the road's direction: 0 ours, pi oncoming, else crossing."""
    speed: float
    """m/s along its heading."""
    braking: bool = False
    lights: bool = True
    """Parked vehicles have none."""


@dataclass(frozen=True)
class Mesh:
    """Faces of a kind in its own axes: forward, right, up, metres."""

    faces: np.ndarray
    """(F, 6, 3); corners may repeat."""
    normals: np.ndarray
    parts: tuple[str, ...]
    layers: np.ndarray
    """Faces of a higher layer are drawn later."""
    size: tuple[float, float, float]
    """Length, width, height."""


class _Builder:
    def __init__(self) -> None:
        self.faces: list[np.ndarray] = []
        self.parts: list[str] = []
        self.layers: list[int] = []
        self.normals: list[np.ndarray] = []

    def face(
        self, points: np.ndarray, normal: tuple[float, float, float], part: str, layer: int
    ) -> None:
        self.faces.append(np.concatenate([points, np.repeat(points[-1:], 6 - len(points), 0)]))
        self.normals.append(np.array(normal, float))
        self.parts.append(part)
        self.layers.append(layer)

    def solid(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        heights: tuple[float, float],
        part: str,
        layer: int,
    ) -> None:
        """Add a prism: (back, front, half width) at the lower and the upper height."""
        (a0, a1, b), (c0, c1, d), (y0, y1) = low, high, heights
        p = {
            (e, s, h): np.array(
                ((a0, a1)[e] if h == 0 else (c0, c1)[e], s * (b, d)[h], (y0, y1)[h])
            )
            for e in (0, 1)
            for s in (-1, 1)
            for h in (0, 1)
        }
        for e, n in ((0, -1.0), (1, 1.0)):
            corners = [p[e, -1, 0], p[e, 1, 0], p[e, 1, 1], p[e, -1, 1]]
            self.face(np.array(corners), (n, 0.0, 0.2), part, layer)
        for s in (-1, 1):
            corners = [p[0, s, 0], p[1, s, 0], p[1, s, 1], p[0, s, 1]]
            self.face(np.array(corners), (0.0, float(s), 0.1), part, layer)
        top = [p[0, -1, 1], p[0, 1, 1], p[1, 1, 1], p[1, -1, 1]]
        self.face(np.array(top), (0.0, 0.0, 1.0), part, layer)

    def plate(
        self, end: float, across: tuple[float, float], heights: tuple[float, float], part: str
    ) -> None:
        """Add a rectangle across the vehicle, facing out of the end it is at."""
        (b0, b1), (y0, y1) = across, heights
        points = [(end, b0, y0), (end, b1, y0), (end, b1, y1), (end, b0, y1)]
        self.face(np.array(points), (float(np.sign(end)), 0.0, 0.0), part, 3)

    def strip(
        self, span: tuple[float, float], half: float, heights: tuple[float, float], part: str
    ) -> None:
        """Add a rectangle along both sides."""
        (a0, a1), (y0, y1) = span, heights
        for side in (-1.0, 1.0):
            b = side * half
            points = [(a0, b, y0), (a1, b, y0), (a1, b, y1), (a0, b, y1)]
            self.face(np.array(points), (0.0, side, 0.0), part, 3)

    def wheels(self, positions: tuple[float, ...], half: float, radius: float) -> None:
        angles = np.linspace(0, 2 * np.pi, 6, endpoint=False) + 0.5
        for a in positions:
            for side in (-1.0, 1.0):
                ring = [
                    (a + radius * np.cos(t), side * half, radius + radius * np.sin(t))
                    for t in angles
                ]
                self.face(np.array(ring), (0.0, side, 0.0), "dark", 2)

    def lamps(self, length: float, half: float, height: float) -> None:
        tall, wide = 0.16, 0.34
        for side in (-1, 1):
            inner, outer = side * (half - wide), side * half * 0.97
            self.plate(-length / 2 - 0.02, (inner, outer), (height, height + tall), "tail")
            self.plate(length / 2 + 0.02, (inner, outer), (height - 0.1, height + 0.06), "head")
        self.plate(-length / 2 - 0.02, (-0.26, 0.26), (height - 0.3, height - 0.16), "plate")
        self.plate(length / 2 + 0.02, (-half * 0.6, half * 0.6), (0.4, 0.58), "dark")

    def mesh(self, size: tuple[float, float, float]) -> Mesh:
        normals = np.array(self.normals)
        return Mesh(np.array(self.faces), normals, tuple(self.parts), np.array(self.layers), size)


@cache
def mesh_of(kind: Kind) -> Mesh:
    """Return the shape of a kind."""
    m = _Builder()
    if kind in ("car", "estate"):
        return _passenger_car(m, kind)
    if kind == "van":
        m.wheels((-1.6, 1.7), 0.99, 0.36)
        m.solid((-2.6, 2.6, 0.97), (-2.55, 2.3, 0.98), (0.3, 1.0), "body", 1)
        m.solid((-2.55, 2.2, 0.97), (-2.5, 1.35, 0.88), (1.0, 2.25), "body", 2)
        m.plate(-2.62, (-0.72, 0.72), (1.25, 1.95), "glass")
        m.face(
            np.array([(2.2, -0.85, 1.08), (2.2, 0.85, 1.08), (1.5, 0.8, 2.05), (1.5, -0.8, 2.05)]),
            (1.0, 0.0, 0.2), "glass", 3,
        )  # fmt: skip
        m.strip((0.4, 1.7), 0.98, (1.15, 1.85), "glass")
        m.lamps(5.2, 0.96, 0.8)
        return m.mesh((5.2, 2.0, 2.25))
    if kind == "truck":
        m.wheels((-3.2, -2.0, 3.1), 1.2, 0.5)
        m.solid((-4.5, 4.4, 1.1), (-4.5, 4.4, 1.1), (0.5, 1.0), "dark", 1)
        m.solid((2.6, 4.4, 1.2), (2.7, 4.2, 1.15), (0.7, 3.0), "body", 2)
        m.solid((-4.5, 2.4, 1.25), (-4.5, 2.4, 1.25), (1.0, 3.7), "box", 2)
        m.strip((-4.3, 2.2), 1.26, (1.9, 2.5), "body")
        m.plate(-4.52, (-1.1, 1.1), (1.2, 3.5), "trim")
        m.plate(-4.53, (-0.04, 0.04), (1.2, 3.5), "dark")
        m.plate(4.43, (-1.05, 1.05), (1.8, 2.7), "glass")
        m.strip((3.2, 4.1), 1.19, (1.8, 2.6), "glass")
        m.lamps(9.0, 1.2, 0.72)
        return m.mesh((9.0, 2.5, 3.7))
    if kind == "bus":
        m.wheels((-3.4, 3.2), 1.26, 0.48)
        m.solid((-5.5, 5.5, 1.25), (-5.45, 5.4, 1.22), (0.35, 3.15), "body", 1)
        m.strip((-5.2, 5.2), 1.27, (1.45, 2.5), "glass")
        m.strip((-5.4, 5.4), 1.27, (0.95, 1.15), "box")
        m.plate(-5.52, (-1.0, 1.0), (1.7, 2.7), "glass")
        m.plate(5.52, (-1.1, 1.1), (1.2, 2.6), "glass")
        m.plate(5.53, (-0.8, 0.8), (2.75, 3.0), "head")
        m.lamps(11.0, 1.2, 0.8)
        return m.mesh((11.0, 2.54, 3.15))
    m.wheels((-0.72, 0.72), 0.06, 0.32)
    m.solid((-0.8, 0.6, 0.16), (-0.7, 0.5, 0.2), (0.35, 0.85), "dark", 1)
    m.solid((-0.35, 0.1, 0.24), (-0.2, 0.2, 0.27), (0.8, 1.45), "body", 2)
    m.solid((-0.15, 0.15, 0.13), (-0.1, 0.12, 0.11), (1.45, 1.75), "box", 2)
    m.plate(-0.86, (-0.1, 0.1), (0.7, 0.85), "tail")
    m.plate(0.86, (-0.12, 0.12), (0.75, 0.95), "head")
    return m.mesh((2.1, 0.7, 1.75))


def _passenger_car(m: _Builder, kind: Kind) -> Mesh:
    back = (-1.75, -1.15) if kind == "car" else (-2.1, -1.85)
    top = 1.45 if kind == "car" else 1.66
    m.wheels((-1.35, 1.38), 0.91, 0.33)
    m.solid((-2.2, 2.2, 0.88), (-2.15, 2.1, 0.9), (0.25, 0.86), "body", 1)
    m.solid((back[0], 1.05, 0.86), (back[1], 0.25, 0.66), (0.86, top), "body", 2)
    for end, lean, a in ((-1.0, back, -0.03), (1.0, (1.05, 0.25), 0.03)):
        low, high = lean[0] + a, lean[1] + a
        points = [(low, -0.76, 0.92), (low, 0.76, 0.92), (high, 0.6, top - 0.07)]
        m.face(np.array([*points, (high, -0.6, top - 0.07)]), (end, 0.0, 0.3), "glass", 3)
    for side in (-1.0, 1.0):
        low, high = side * 0.85, side * 0.69
        points = [(back[0] + 0.2, low, 0.92), (0.9, low, 0.92), (0.22, high, top - 0.08)]
        m.face(np.array([*points, (back[1] + 0.1, high, top - 0.08)]), (0.0, side, 0.1), "glass", 3)
    m.lamps(4.4, 0.88, 0.62)
    return m.mesh((4.4, 1.82, top))


def corners_of(vehicle: Vehicle) -> np.ndarray:
    """Return the corners (8, 3) of its bounding box in road coordinates."""
    length, width, height = mesh_of(vehicle.kind).size
    signs = np.array([(a, b, y) for a in (-1, 1) for b in (-1, 1) for y in (0, 1)])
    return _placed(signs * (length / 2, width / 2, height), vehicle)


def _placed(points: np.ndarray, vehicle: Vehicle) -> np.ndarray:
    c, s = np.cos(vehicle.heading), np.sin(vehicle.heading)
    a, b, y = points[..., 0], points[..., 1], points[..., 2]
    return np.stack([vehicle.s + a * c - b * s, vehicle.l + a * s + b * c, y], axis=-1)


def draw_vehicle(canvas: Canvas, vehicle: Vehicle) -> None:
    """Draw a vehicle and its shadow; small ones without details."""
    mesh, camera, air = mesh_of(vehicle.kind), canvas.camera, canvas.air
    z = max(1.0, vehicle.s - camera.s)
    x = float(vehicle.l + camera.bend(np.array([z]))[0])
    length, width, _ = mesh.size
    spread = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)])
    shadow = _placed(spread * (length / 2 + 0.12, width / 2 + 0.12, 0), vehicle)
    canvas.polygon(shadow, air.haze * (1 - air.clearness(z)), 0.6 * float(air.clearness(z)))
    faces = _placed(mesh.faces, vehicle)
    eye = np.array((camera.s, camera.l, 1.4))
    normals = _placed(mesh.normals, vehicle) - (vehicle.s, vehicle.l, 0)
    seen = ((eye - faces.mean(axis=1)) * normals).sum(axis=1) > 0
    tiny = camera.focal * width / z < 5
    depth = faces[..., 0].mean(axis=1)
    order = np.lexsort((-depth, mesh.layers))
    sun = 0.72 + 0.3 * normals[:, 2] + 0.1 * normals[:, 1] - 0.06 * normals[:, 0]
    projected = camera.project(faces.reshape(-1, 3)).reshape(-1, 6, 2)
    whole = faces[..., 0].min(axis=1) > camera.s + NEAR_M
    looks = {part: _look(canvas, vehicle, part, (x, z)) for part in set(mesh.parts)}
    for k in order:
        part = mesh.parts[k]
        if not seen[k] or (tiny and part in ("plate", "trim", "dark")):
            continue
        base, shine = looks[part]
        if whole[k]:
            canvas.fill(projected[k], base + shine * sun[k])
        else:
            canvas.polygon(faces[k], base + shine * sun[k])
    if air.dark and vehicle.lights:
        _switch_on(canvas, vehicle, mesh.size)


def _look(
    canvas: Canvas, vehicle: Vehicle, part: str, place: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a part looks like without sun, and what full sun adds to it."""
    paint = np.array(vehicle.paint if part == "body" else PARTS[part])
    unlit = canvas.air.through(np.zeros(3), place[1])
    shine = canvas.shade(paint * (0.75 if canvas.air.snow else 1.0), *place) - unlit
    on = 0.0
    if part == "tail" and vehicle.lights:
        on = 1.0 if vehicle.braking else 0.55 * canvas.air.dark
    elif part == "head" and vehicle.lights:
        on = canvas.air.dark
    lamp = np.array((1.0, 0.12, 0.08)) if part == "tail" else np.array((1.0, 0.97, 0.85))
    lit = canvas.air.through(lamp, place[1] / 3) * on
    return np.asarray(unlit * (1 - on) + lit), np.asarray(shine * (1 - on))


def _switch_on(canvas: Canvas, vehicle: Vehicle, size: tuple[float, float, float]) -> None:
    """Add the glow of the lamps that face the camera."""
    length, width, _ = size
    ahead = np.cos(vehicle.heading)
    if abs(ahead) < 0.5:
        return
    away = ahead > 0
    end = -length / 2 if away else length / 2
    red = 0.75 if vehicle.braking else 0.32
    colour = red * np.array((1, 0.1, 0.06)) if away else 0.9 * np.array((1, 0.95, 0.8))
    sides = (0.0,) if vehicle.kind == "motorbike" else (-0.4, 0.4)
    for side in sides:
        lamp = _placed(np.array((end, side * width, 0.7)), vehicle)
        canvas.glow(lamp, canvas.air.dark * colour, 0.32 if away else 0.5, streak=True)
