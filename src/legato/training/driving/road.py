"""The road: lanes, curves, hills and crossings, and the camera that drives on it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from legato.flow.driving_camera import CAMERA_HEIGHT_M, FOCAL, HORIZON, LANE_M
from legato.training.driving.labels import Place
from legato.training.driving.motion import SpeedProfile, Waves

CROSSING_M = 7.0
"""Width of a crossing road."""
_GRID_M = np.arange(401.0)
"""Places ahead at which a camera knows the road; between them it is straight."""
DRAWN_COLUMNS = 256
"""Of a picture whose smallest things take one pixel: one of 128 columns, drawn twice as large."""
NEAR_M = 0.8
"""What is nearer to the camera than this is cut off."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What lies beside what, from the centre line outwards, the same on both sides."""

    lanes: int
    """Lanes per direction."""
    own_lane: int
    """0 is next to the centre line; traffic keeps to the right."""
    median_m: float
    """Strip between the directions."""
    shoulder_m: float
    """Paved strip beyond the outermost lane; in a city cars park there."""
    pavement_m: float
    """For walking; 0: none."""

    @property
    def half_m(self) -> float:
        """From the centre line to where the asphalt ends."""
        return self.median_m / 2 + self.lanes * LANE_M + self.shoulder_m

    def lane_centre(self, lane: int) -> float:
        """Return l of a lane's centre on the own side."""
        return self.median_m / 2 + (lane + 0.5) * LANE_M


def draw_layout(rng: np.random.Generator, place: Place) -> Layout:
    """Return a random layout of a place."""
    if place == "highway":
        lanes = int(rng.integers(2, 4))
        own = int(rng.integers(lanes))
        return Layout(lanes=lanes, own_lane=own, median_m=3.0, shoulder_m=2.2, pavement_m=0.0)
    if place == "city":
        lanes = int(rng.integers(1, 3))
        own = int(rng.integers(lanes))
        return Layout(lanes=lanes, own_lane=own, median_m=0.0, shoulder_m=2.4, pavement_m=2.6)
    return Layout(lanes=1, own_lane=0, median_m=0.0, shoulder_m=0.5, pavement_m=0.0)


_CURVATURE = {"city": 0.0018, "country": 0.0045, "forest": 0.0045, "highway": 0.0014}
_HILLS_M = {"city": 0.3, "country": 1.3, "forest": 1.1, "highway": 0.8}
_CRUISE = {"city": (4.0, 12.0), "country": (7.0, 16.0), "forest": (6.0, 14.0)} | {
    "highway": (8.0, 18.0)
}
_STOP = {"city": 0.35, "country": 0.2, "forest": 0.2, "highway": 0.18}


class Road:
    """Curvature and height along s as sums of waves, crossings, and the own car's motion.

    Args:
        seed: of the world.
        place: sets how curved, hilly and fast it is.
    """

    def __init__(self, seed: int, place: Place) -> None:
        rng = np.random.default_rng((seed, 1))
        self.layout = draw_layout(rng, place)
        self.curvature = Waves.draw(rng, _CURVATURE[place], (160.0, 900.0), 4)
        self.height = Waves.draw(rng, _HILLS_M[place], (180.0, 500.0), 3)
        self.sway = Waves.draw(rng, 0.16, (5.0, 19.0), 3)
        self.shake = Waves.draw(rng, 0.0022, (1.3, 17.0), 5)
        self.own = SpeedProfile((seed, 2), cruise=_CRUISE[place], stop=_STOP[place], reverse=0.25)
        self.crossing_every_m = {"city": 90.0, "country": 260.0, "forest": 320.0, "highway": 0.0}[
            place
        ]
        self.crossing_offset_m = float(rng.uniform(20, 80))

    def crossings(self, first: float, last: float) -> list[tuple[int, float]]:
        """Return (number, s) of the crossings between two places."""
        every, offset = self.crossing_every_m, self.crossing_offset_m
        if not every:
            return []
        numbers = range(int(np.ceil((first - offset) / every)), int((last - offset) // every) + 1)
        return [(k, offset + every * k) for k in numbers]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Where the own car is and looks at one time, and how the road projects into its picture."""

    road: Road
    s: float
    l: float  # noqa: E741 - the road coordinate
    yaw: float
    """Heading to the right of the road's tangent, radians."""
    pitch: float
    """Radians up."""
    rows: int
    columns: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return FOCAL * self.columns

    @property
    def least_px(self) -> float:
        """Pixels that the smallest thing takes, so that all sizes show as much of it."""
        return max(1.0, self.columns / DRAWN_COLUMNS)

    @property
    def horizon(self) -> float:
        """Row of the horizon of a flat road."""
        return HORIZON * self.rows + self.focal * self.pitch

    @property
    def heading(self) -> float:
        """Direction of view, radians to the right of where s = 0 leads on average."""
        return float(self.road.curvature.at(self.s, 1)) + self.yaw

    def bend(self, z: np.ndarray) -> np.ndarray:
        """Return how far to the camera's right the road's centre line lies, z metres ahead."""
        return np.asarray(np.interp(z, _GRID_M, self._bends))

    def rise(self, z: np.ndarray) -> np.ndarray:
        """Return the road's height over the camera's ground plane, z metres ahead."""
        return np.asarray(np.interp(z, _GRID_M, self._rises))

    @cached_property
    def _bends(self) -> np.ndarray:
        curve, s, z = self.road.curvature, self.s, _GRID_M
        bend = curve.at(s + z, 2) - curve.at(s, 2) - curve.at(s, 1) * z
        return np.asarray(bend - self.l - self.yaw * z)

    @cached_property
    def _rises(self) -> np.ndarray:
        hills, s, z = self.road.height, self.s, _GRID_M
        return np.asarray(hills.at(s + z) - hills.at(s) - hills.at(s, -1) * z)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return column and row (N, 2) of road coordinates (N, 3): s, l, y.

        Places behind the camera are moved to just before it; see `NEAR_M`.
        """
        z = np.maximum(points[:, 0] - self.s, NEAR_M)
        x = points[:, 1] + self.bend(z)
        up = points[:, 2] + self.rise(z) - CAMERA_HEIGHT_M
        seen = np.empty((len(points), 2))
        seen[:, 0] = self.columns / 2 + self.focal * x / z
        seen[:, 1] = self.horizon - self.focal * up / z
        return seen


def camera_at(road: Road, time: float, rows: int, columns: int) -> Camera:
    """Return the camera at a time: it sways in its lane, dips when braking and shakes a little."""
    own, s = road.own, road.own.distance(time)
    moving = min(1.0, abs(own.speed(time)) / 6)
    offset = float(road.sway.at(time))
    return Camera(
        road=road,
        s=s,
        l=road.layout.lane_centre(road.layout.own_lane) + offset,
        yaw=0.06 * offset + 0.006 * float(np.sin(0.7 * time)),
        pitch=0.0022 * own.acceleration(time) + moving * float(road.shake.at(s)),
        rows=rows,
        columns=columns,
    )
