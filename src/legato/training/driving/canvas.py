"""Drawing things of the road into a picture: lit, dimmed by distance, smooth at their edges."""

import cv2
import numpy as np

from legato.training.driving.road import NEAR_M, Camera
from legato.training.driving.textures import Facade, Sprite
from legato.training.driving.weather import Air

_SHIFT = 4
"""cv2 takes whole numbers; these are sixteenths of a pixel."""
_LIMIT_PX = 4000
_BARK = np.array((0.3, 0.22, 0.16))


class Canvas:
    """A picture in progress.

    Args:
        camera: what it sees.
        air: the light it sees by.
    """

    def __init__(self, camera: Camera, air: Air) -> None:
        self.camera, self.air = camera, air
        self.picture = np.zeros((camera.rows, camera.columns, 3), np.uint8)

    def shade(self, paint: np.ndarray, x: float, z: float) -> np.ndarray:
        """Return what a painted thing looks like there, RGB in [0, 1]."""
        return self.air.through(paint * self.air.light(x, z), z)

    def polygon(self, points: np.ndarray, colour: np.ndarray, opacity: float = 1.0) -> None:
        """Fill a convex polygon of road coordinates (N, 3) with a colour as it looks."""
        near = _in_front(points, self.camera.s + NEAR_M)
        if len(near) >= 3:
            self.fill(self.camera.project(near), colour, opacity)

    def fill(self, corners: np.ndarray, colour: np.ndarray, opacity: float = 1.0) -> None:
        """Fill a convex polygon of picture positions (N, 2)."""
        box = self._cut(corners)
        if box is None:
            return
        rgb = (255 * np.clip(colour, 0, 1)).tolist()
        fixed = _fixed(corners)
        if opacity >= 1:
            cv2.fillConvexPoly(self.picture, fixed, rgb, cv2.LINE_AA, _SHIFT)
            return
        region = self.picture[box]
        layer = region.copy()
        offset = np.array((box[1].start, box[0].start)) << _SHIFT
        cv2.fillConvexPoly(layer, fixed - offset.astype(np.int32), rgb, cv2.LINE_AA, _SHIFT)
        cv2.addWeighted(layer, opacity, region, 1 - opacity, 0, dst=region)

    def wall(self, points: np.ndarray, facade: Facade, shade: float) -> None:
        """Draw a house front onto a rectangle (4, 3): bottom left, bottom right, top right, top
        left; the bottom may run away from the camera."""
        camera, air = self.camera, self.air
        start = camera.s + NEAR_M
        share = np.zeros(2)
        corners = points.copy()
        for k in (0, 1):  # cut off what is behind the camera
            a, b = points[k, 0], points[1 - k, 0]
            if a < start < b:
                share[k] = (start - a) / (b - a)
                corners[[k, 3 - k]] += share[k] * (points[[1 - k, 2 + k]] - points[[k, 3 - k]])
        if corners[:, 0].max() <= start:
            return
        seen = camera.project(corners)
        box = self._cut(seen)
        if box is None:
            return
        size = np.ptp(seen, axis=0)
        whole_width = size[0] / max(0.05, 1 - share.sum())
        level = sum(p.shape[1] > 1.5 * whole_width for p in facade.paint[1:])
        z = float(max(NEAR_M, corners[:, 0].mean() - camera.s))
        x = float(corners[:, 1].mean() + camera.bend(np.array([z]))[0])
        paint = facade.paint[level] * (shade * air.light(x, z)) + facade.windows[level] * air.dark
        h, w = paint.shape[:2]
        left, right = share[0] * w, (1 - share[1]) * w
        source = np.array([(left, h), (right, h), (right, 0), (left, 0)], np.float32) - 0.5
        origin = np.array((box[1].start, box[0].start))
        matrix = cv2.getPerspectiveTransform(source, (seen - origin).astype(np.float32))
        region = self.picture[box]
        out = (region.shape[1], region.shape[0])
        drawn = (255 * air.through(paint, z)).clip(0, 255).astype(np.uint8)
        drawn = cv2.warpPerspective(drawn, matrix, out, borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, _fixed(seen - origin), 255, cv2.LINE_AA, _SHIFT)
        share_of = mask[..., None].astype(np.float32) / 255
        region[:] = region + (drawn - region.astype(np.float32)) * share_of

    def sprite(
        self, sprite: Sprite, foot: np.ndarray, size_m: tuple[float, float], leaf: np.ndarray
    ) -> None:
        """Stand a cut-out of width and height `size_m` on a place (3,); wood keeps its colour."""
        camera = self.camera
        z = float(foot[0] - camera.s)
        if z < 1.5 or self.air.clearness(z) < 0.03:
            return
        base = camera.project(foot[None])[0]
        w, h = (camera.focal * m / z for m in size_m)
        corners = np.array([(-w / 2, -h), (w / 2, -h), (w / 2, 0), (-w / 2, 0)]) + base
        box = self._cut(corners)
        if box is None:
            return
        layer = sprite.layers[sum(layer.shape[0] > 1.3 * h for layer in sprite.layers[1:])]
        n = layer.shape[0]
        x = float(foot[1] + camera.bend(np.array([z]))[0])
        light, clear = self.air.light(x, z), float(self.air.clearness(z))
        # what a texel adds to the picture, as a matrix of (brightness, coverage, wood)
        parts = np.zeros((4, 3))
        parts[:3, 0] = 255 * clear * leaf * light
        parts[:3, 1] = 255 * (1 - clear) * self.air.haze
        parts[:3, 2] = 255 * clear * light * (_BARK - 0.55 * leaf)
        parts[3, 1] = 1
        both = cv2.transform(layer, parts)
        origin = np.array((box[1].start, box[0].start))
        matrix = np.array([[w / n, 0, 0], [0, h / n, 0]], np.float32)
        matrix[:, 2] = corners[0] - origin + 0.5 * matrix[:, :2].sum(axis=1) - 0.5
        region = self.picture[box]
        drawn = cv2.warpAffine(both, matrix, (region.shape[1], region.shape[0]))
        region[:] = np.minimum(region * (1 - drawn[..., 3:]) + drawn[..., :3], 255)

    def glow(self, place: np.ndarray, colour: np.ndarray, radius_m: float, streak: bool) -> None:
        """Add the glow of a lamp at a place (3,), and on a wet road its mirror image."""
        z = float(place[0] - self.camera.s)
        if z < 1.0:
            return
        centre = self.camera.project(place[None])[0]
        radius = max(1.6 * self.camera.least_px, self.camera.focal * radius_m / z)
        bright = 255 * colour * float(self.air.clearness(z / 2))
        self._add(centre, (radius, radius), bright)
        if streak and self.air.wet:
            below = self.camera.project(np.array([[place[0], place[1], -place[2]]]))[0]
            self._add(below, (0.7 * radius, 3.0 * radius), 0.5 * bright)

    def _add(self, centre: np.ndarray, radii: tuple[float, float], colour: np.ndarray) -> None:
        reach = np.array(radii) * 2.2
        box = self._cut(np.array([centre - reach, centre + reach]))
        if box is None:
            return
        x = (np.arange(box[1].start, box[1].stop) + 0.5 - centre[0]) / radii[0]
        y = (np.arange(box[0].start, box[0].stop) + 0.5 - centre[1]) / radii[1]
        bump = np.exp(-(y[:, None] ** 2) - x**2)[..., None].astype(np.float32)
        region = self.picture[box]
        region[:] = (region + bump * colour).clip(0, 255)

    def _cut(self, corners: np.ndarray) -> tuple[slice, slice] | None:
        """Return the rows and columns of the picture that hold these positions, if any."""
        height, width = self.picture.shape[:2]
        x, y = corners.T.tolist()
        left, right = max(int(min(x)) - 2, 0), min(int(max(x)) + 3, width)
        top, bottom = max(int(min(y)) - 2, 0), min(int(max(y)) + 3, height)
        if left >= right or top >= bottom:
            return None
        return slice(top, bottom), slice(left, right)


def _fixed(corners: np.ndarray) -> np.ndarray:
    limited = np.minimum(np.maximum(corners, -_LIMIT_PX), _LIMIT_PX)
    # cv2 counts from the centre of the first pixel
    return np.asarray(np.rint((limited - 0.5) * (1 << _SHIFT)), np.int32)


def _in_front(points: np.ndarray, start: float) -> np.ndarray:
    """Return the part of a convex polygon with s >= start (Sutherland and Hodgman 1974)."""
    ahead = points[:, 0] - start
    if (ahead >= 0).all():
        return points
    kept: list[np.ndarray] = []
    for k in range(len(points)):
        a, b = ahead[k - 1], ahead[k]
        if (a < 0) != (b < 0):
            kept.append(points[k - 1] + (points[k] - points[k - 1]) * a / (a - b))
        if b >= 0:
            kept.append(points[k])
    return np.array(kept)
