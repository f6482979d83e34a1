"""Render a driving scene: a world from a seed, and its frame at any time with the truth."""

from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import InputError
from legato.training.driving.canvas import Canvas
from legato.training.driving.ground import Soil, paint_ground
from legato.training.driving.labels import Labels, draw_labels
from legato.training.driving.road import Camera, Road, camera_at
from legato.training.driving.scenery import Scenery
from legato.training.driving.sky import TURN, paint_sky, panorama
from legato.training.driving.traffic import Traffic
from legato.training.driving.vehicles import Kind, Vehicle, corners_of, draw_vehicle
from legato.training.driving.weather import air_of, draw_precipitation

SIZE = (64, 128)
"""Rows and columns that the small models use."""
_SUPERSAMPLING = 2


@dataclass(frozen=True, kw_only=True)
class Box:
    """A vehicle in the picture; positions in shares of its width and height."""

    kind: Kind
    left: float
    top: float
    right: float
    bottom: float
    distance_m: float
    heading: float
    """Radians to the right of the road's direction."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is known about a frame because it was rendered."""

    labels: Labels
    boxes: tuple[Box, ...]
    """Nearest first; what is hidden by other things or by fog is counted where it is not tiny."""
    speed: float
    """Of the own car, m/s; negative: it reverses."""
    lane_offset_m: float
    """Of the camera from the centre of its lane, to the right."""
    yaw: float
    """Heading of the camera to the right of the road's tangent, radians."""
    curvature: float
    """Of the road at the camera, 1/m, to the right."""


class World:
    """Everything about a scene that does not change.

    Args:
        seed: decides all that the labels leave open.
        labels: what the scene is to be; None: drawn from the seed.

    Raises:
        InputError: the seed is negative.
    """

    def __init__(self, seed: int, labels: Labels | None = None) -> None:
        if seed < 0:
            raise InputError(f"seed={seed}", why="seeds count from 0", fix="use 0 or more")
        rng = np.random.default_rng((seed, 0))
        drawn = draw_labels(rng)
        self.seed, self.labels = seed, labels or drawn
        self.road = Road(seed, self.labels.place)
        self.traffic = Traffic(seed, self.road, self.labels)
        self.scenery = Scenery(seed, self.road, self.labels)
        self.air = air_of(self.labels, rng)
        self.soil = _draw_soil(rng, self.labels)
        self.panorama = lru_cache(maxsize=2)(self._panorama)

    def _panorama(self, rows: int, columns: int) -> UInt8[ndarray, "H W 3"]:
        return panorama(
            np.random.default_rng((self.seed, 12)), rows, columns, self.labels, self.air
        )

    def frame(
        self, time: float, size: tuple[int, int] = SIZE
    ) -> tuple[UInt8[ndarray, "H W 3"], Truth]:
        """Return the picture and the truth at a time in seconds.

        Args:
            time: at least 0.
            size: rows and columns; the field of view belongs to the columns.

        Raises:
            InputError: the time is negative.
        """
        if time < 0:
            raise InputError(f"time={time}", why="worlds begin at 0", fix="use 0 or more")
        rows, columns = (_SUPERSAMPLING * n for n in size)
        camera = camera_at(self.road, time, rows, columns)
        canvas = Canvas(camera, self.air)
        paint_sky(
            canvas.picture, self.panorama(round(0.62 * rows), round(TURN * camera.focal)), camera
        )
        paint_ground(canvas.picture, camera, self.air, self.soil)
        vehicles = self.traffic.at(time)
        things = [(item.s, item.draw) for item in self.scenery.around(camera.s)]
        things += [(v.s, partial(_draw, v)) for v in vehicles if v.s > camera.s + 1.5]
        for _, draw in sorted(things, key=lambda thing: -thing[0]):
            draw(canvas)
        draw_precipitation(canvas.picture, self.seed, time, camera, self.air)
        picture = cv2.resize(canvas.picture, size[::-1], interpolation=cv2.INTER_AREA)
        return picture, self._truth(time, camera, vehicles)

    def clip(
        self, times: list[float], size: tuple[int, int] = SIZE
    ) -> tuple[UInt8[ndarray, "T H W 3"], list[Truth]]:
        """Return the pictures and the truth at several times."""
        frames, truths = zip(*(self.frame(time, size) for time in times), strict=True)
        return np.stack(frames), list(truths)

    def _truth(self, time: float, camera: Camera, vehicles: list[Vehicle]) -> Truth:
        boxes = [_box(v, camera) for v in sorted(vehicles, key=lambda v: v.s)]
        seen = [
            box for box in boxes if box is not None and self.air.clearness(box.distance_m) > 0.08
        ]
        layout = self.road.layout
        return Truth(
            labels=self.labels,
            boxes=tuple(seen),
            speed=self.road.own.speed(time),
            lane_offset_m=camera.l - layout.lane_centre(layout.own_lane),
            yaw=camera.yaw,
            curvature=float(self.road.curvature.at(camera.s)),
        )


def _draw(vehicle: Vehicle, canvas: Canvas) -> None:
    draw_vehicle(canvas, vehicle)


def _box(vehicle: Vehicle, camera: Camera) -> Box | None:
    """Return the box of a vehicle, if it is in front of the camera, in view and not tiny."""
    corners = corners_of(vehicle)
    nearest = float(corners[:, 0].min() - camera.s)
    if vehicle.s < camera.s + 1.5:
        return None
    seen = camera.project(corners) / (camera.columns, camera.rows)
    (left, top), (right, bottom) = seen.min(axis=0), seen.max(axis=0)
    left, top, right, bottom = (float(np.clip(x, 0, 1)) for x in (left, top, right, bottom))
    if right - left < 0.012 or bottom - top < 0.02:
        return None
    return Box(
        kind=vehicle.kind,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        distance_m=max(0.0, nearest),
        heading=vehicle.heading,
    )


def _draw_soil(rng: np.random.Generator, labels: Labels) -> Soil:
    greens = ((0.3, 0.4, 0.16), (0.42, 0.42, 0.2), (0.5, 0.42, 0.28), (0.24, 0.34, 0.14))
    earth = np.array(greens[int(rng.integers(4))]) * rng.uniform(0.85, 1.15, 3)
    if labels.place == "city":
        earth = np.array((0.48, 0.46, 0.43)) * rng.uniform(0.85, 1.1)
    patch = earth * rng.uniform((1.1, 0.9, 0.8), (1.7, 1.3, 1.2))
    tar = rng.uniform(0.24, 0.4) * np.array((1.0, 1.0, 1.03))
    if labels.weather == "rain":
        tar = tar * 0.72
    return Soil(
        earth=earth.clip(0, 1),
        patch=patch.clip(0, 1),
        asphalt=tar,
        paint=np.array((0.92, 0.92, 0.9)),
        contrast=0.13 if labels.place == "city" else 0.24,
    )
