"""Who else is on the road at a time: streams of both directions, a car ahead, crossing and parked.

A stream drives stop-and-go as a whole, each car swinging about its place in it, so cars are passed
and pass, but never meet. The car ahead keeps a gap that is a function of the distance driven: it
stops when the own car stops, and stands still while that reverses.
"""

from functools import lru_cache

import numpy as np

from legato.training.driving.labels import Crowd, Labels
from legato.training.driving.motion import SpeedProfile
from legato.training.driving.road import Road
from legato.training.driving.vehicles import KINDS, Kind, Vehicle

REACH_M = 130.0
"""How far ahead traffic is looked for."""
_SPACING_M: dict[Crowd, float] = {"empty": 900.0, "sparse": 62.0, "crowded": 19.0}
_PRESENT: dict[Crowd, float] = {"empty": 0.1, "sparse": 0.75, "crowded": 0.9}
_PARKED: dict[Crowd, float] = {"empty": 0.0, "sparse": 0.25, "crowded": 0.7}
_KIND_SHARES = (0.42, 0.2, 0.13, 0.1, 0.05, 0.1)
_PAINTS = (
    (0.85, 0.85, 0.86), (0.12, 0.12, 0.14), (0.5, 0.52, 0.55), (0.62, 0.07, 0.06),
    (0.1, 0.2, 0.5), (0.75, 0.72, 0.62), (0.1, 0.32, 0.2), (0.9, 0.65, 0.1), (0.35, 0.1, 0.25),
)  # fmt: skip


class Traffic:
    """All vehicles of a world.

    Args:
        seed: of the world.
        road: where they drive.
        labels: how many there are.
    """

    def __init__(self, seed: int, road: Road, labels: Labels) -> None:
        rng = np.random.default_rng((seed, 3))
        self.seed, self.road, self.crowd = seed, road, labels.crowd
        cruise = (8.0, 17.0) if labels.place == "highway" else (4.0, 13.0)
        self.streams: list[tuple[int, float, SpeedProfile, float]] = []
        layout = road.layout
        for direction in (1, -1):
            for lane in range(layout.lanes):
                if direction == 1 and lane == layout.own_lane:
                    continue
                profile = SpeedProfile(
                    (seed, 4, len(self.streams)), cruise=cruise, stop=0.15, reverse=0.0
                )
                centre = direction * layout.lane_centre(lane)
                self.streams.append((direction, centre, profile, float(rng.uniform(0, 900))))
        self.leads = labels.crowd != "empty" and rng.random() < 0.8
        self.gap_phases = rng.uniform(0, 2 * np.pi, 3)
        self.parking = labels.place == "city"
        self._look_of = lru_cache(maxsize=1024)(self._draw_look)

    def at(self, time: float) -> list[Vehicle]:
        """Return the vehicles from a little behind the camera to `REACH_M` ahead, at a time."""
        own = self.road.own
        here = own.distance(time)
        found = [*self._streaming(time, here), *self._crossing(time, here), *self._parked(here)]
        if self.leads:
            found.append(self._ahead(time))
        return [v for v in found if -8 < v.s - here < REACH_M]

    def _draw_look(self, *numbers: int) -> tuple[Kind, tuple[float, float, float], np.ndarray]:
        rng = np.random.default_rng((self.seed, *numbers))
        kind = KINDS[int(rng.choice(len(KINDS), p=_KIND_SHARES))]
        paint = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.8, 1.15)
        return kind, tuple(paint.clip(0, 1).tolist()), rng.random(6)

    def _streaming(self, time: float, here: float) -> list[Vehicle]:
        spacing, vehicles = _SPACING_M[self.crowd], []
        for number, (direction, lane, profile, offset) in enumerate(self.streams):
            moved = direction * profile.distance(time) + offset
            first = int((here - 10 - moved) // spacing)
            for k in range(first, int((here + REACH_M - moved) // spacing) + 2):
                kind, paint, draws = self._look_of(5, number, k + (1 << 20))
                if draws[0] > _PRESENT[self.crowd]:
                    continue
                swing = min(0.22 * spacing, 9.0)
                if kind in ("truck", "bus"):
                    swing *= 0.4
                rate = 0.12 + 0.2 * draws[1]
                angle = rate * time + 6.28 * draws[2]
                speed = profile.speed(time) + direction * swing * rate * np.cos(angle)
                slowing = profile.acceleration(time) - direction * swing * rate**2 * np.sin(angle)
                vehicles.append(
                    Vehicle(
                        kind=kind,
                        paint=paint,
                        s=k * spacing + moved + swing * float(np.sin(angle)),
                        l=lane + 0.5 * (draws[3] - 0.5),
                        heading=0.0 if direction == 1 else float(np.pi),
                        speed=float(speed),
                        braking=bool(slowing < -0.7 or abs(speed) < 0.4),
                    )
                )
        return vehicles

    def _ahead(self, time: float) -> Vehicle:
        """The car ahead: it comes near, draws away and is replaced by another when far off."""
        own = self.road.own
        driven = own.furthest(time)
        cycle, a, b = 420.0, *self.gap_phases[:2]
        turn = (driven + 70 * a) / cycle
        kind, paint, draws = self._look_of(6, int(turn))
        part = turn % 1
        # far at both ends of its cycle; |d gap / d driven| < 1, so it never reverses
        gap = 11 + 6 * draws[4] + 150 * (2 * part - 1) ** 8 + 4.5 * np.sin(driven / 17 + b)
        step = 0.5
        later = (turn + step / cycle) % 1
        growth = (150 * ((2 * later - 1) ** 8 - (2 * part - 1) ** 8)) / step
        growth += 4.5 / 17 * np.cos(driven / 17 + b)
        moving = own.speed(time) if own.distance(time) >= driven - 1e-6 else 0.0
        speed = max(0.0, moving) * max(0.0, 1 + growth)
        slowing = own.acceleration(time) < -0.5 or speed < 0.3
        lane = self.road.layout.lane_centre(self.road.layout.own_lane)
        length = 3.0 if kind in ("truck", "bus") else 0.0
        side = 0.5 * (draws[3] - 0.5)
        return Vehicle(
            kind=kind, paint=paint, s=driven + gap + length, l=lane + side,
            heading=0.0, speed=float(speed), braking=bool(slowing),
        )  # fmt: skip

    def _crossing(self, time: float, here: float) -> list[Vehicle]:
        """Cars cross before the own car is there; standing at the crossing one watches them."""
        if self.crowd == "empty":
            return []
        vehicles = []
        for number, at in self.road.crossings(here + 4, here + REACH_M):
            start = self.road.own.time_at(at - 34)
            count = 2 if self.crowd == "sparse" else 5
            for k in range(count):
                kind, paint, draws = self._look_of(7, number + (1 << 20), k)
                side = 1 if draws[0] < 0.5 else -1
                speed = 8 + 3 * draws[1]
                l = side * speed * (time - start - 0.4 + (k // 2) * 2.6 + draws[2])  # noqa: E741
                if abs(l) < 60:
                    heading = side * np.pi / 2
                    lane = at + 1.75 * side
                    vehicles.append(
                        Vehicle(kind=kind, paint=paint, s=lane, l=l, heading=heading, speed=speed)
                    )
        return vehicles

    def _parked(self, here: float) -> list[Vehicle]:
        if not self.parking:
            return []
        layout, vehicles = self.road.layout, []
        gaps = [at for _, at in self.road.crossings(here - 20, here + REACH_M + 20)]
        for k in range(int((here - 8) // 6.5), int((here + 90) // 6.5)):
            for side in (-1, 1):
                kind, paint, draws = self._look_of(8, k + (1 << 20), side + 1)
                s = 6.5 * k + 0.8 * draws[1]
                free = any(abs(s - at) < 11 for at in gaps) or kind in ("truck", "bus", "motorbike")
                if free or draws[0] > _PARKED[self.crowd]:
                    continue
                vehicles.append(
                    Vehicle(
                        kind=kind, paint=paint, s=s, l=side * (layout.half_m - 1.15),
                        heading=0.0 if side == 1 else float(np.pi), speed=0.0, lights=False,
                    )
                )  # fmt: skip
        return vehicles
