"""The ground: asphalt with marks, shoulders and pavements, crossings, and the land beside it.

Every pixel asks which place it sees; patterns are averaged over the pixel's footprint in closed
form, or taken from a texture level of that size.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from legato.flow.driving_camera import (
    CAMERA_HEIGHT_M,
    DASH_M,
    DASH_PERIOD_M,
    LANE_M,
    MARK_M,
)
from legato.training.driving.road import CROSSING_M, Camera, Layout
from legato.training.driving.textures import GRAIN_LEVELS, GRAIN_M, GRAIN_TEXELS, ground_grain
from legato.training.driving.weather import Air

FAR_M = 350.0


@dataclass(frozen=True, kw_only=True)
class Soil:
    """Colours of the ground of one world, reflectance."""

    earth: np.ndarray
    patch: np.ndarray
    """What the earth turns into in places."""
    asphalt: np.ndarray
    paint: np.ndarray
    """Of the marks; a second colour on the centre line is not used."""
    contrast: float


@dataclass(frozen=True)
class Strip:
    """Part of the ground that is seen: one place per pixel of the rows below the horizon."""

    top: int
    """First row of the picture that shows ground."""
    z: np.ndarray
    """(R, 1), metres ahead."""
    along_m: np.ndarray
    """(R, 1), length of road under a row."""
    x: np.ndarray
    """(R, W), metres to the right of the camera."""
    l: np.ndarray  # noqa: E741 - the road coordinate
    """(R, W), metres to the right of the centre line."""


def visible_strip(camera: Camera) -> Strip:
    """Find the place that each pixel sees; a hill hides what is behind its crest."""
    grid = np.geomspace(0.8, FAR_M, 160)
    rows = camera.horizon + camera.focal * (CAMERA_HEIGHT_M - camera.rise(grid)) / grid
    crest = np.minimum.accumulate(rows)
    crest -= np.linspace(0, 1e-3, len(crest))  # strictly falling, for the inverse
    top = max(0, int(np.ceil(crest[-1])))
    centres = np.arange(top, camera.rows) + 0.5
    z = np.interp(-centres, -crest, grid)
    edges = np.interp(-np.arange(top, camera.rows + 1.0), -crest, grid)
    along = np.maximum(edges[:-1] - edges[1:], 1e-2)
    across = (np.arange(camera.columns) + 0.5 - camera.columns / 2) / camera.focal
    x = (z[:, None] * across).astype(np.float32)
    l = x - camera.bend(z)[:, None].astype(np.float32)  # noqa: E741
    return Strip(top, z[:, None].astype(np.float32), along[:, None].astype(np.float32), x, l)


def paint_ground(picture: np.ndarray, camera: Camera, air: Air, soil: Soil) -> int:
    """Paint the ground into (H, W, 3) uint8 in place; return its first row."""
    seen = visible_strip(camera)
    layout = camera.road.layout
    earth_grain, tar_grain, patches = _grain(camera, seen)
    side = np.abs(seen.l)
    pixel = seen.z / camera.focal
    fade = np.clip(0.5 + 0.8 * patches + 0.4 * earth_grain, 0, 1)[..., None]
    colour = soil.earth + (soil.patch - soil.earth) * fade
    colour *= 1 + soil.contrast * earth_grain[..., None]
    tar = soil.asphalt * (1 + 0.11 * tar_grain[..., None]) * _wheel_tracks(seen.l, layout)
    crossing, stripes = _crossings(camera, seen)
    if layout.pavement_m:
        walk = _inside(side, layout.half_m, layout.half_m + layout.pavement_m, pixel)
        slabs = 0.9 + 0.1 * _dashes(camera.s + seen.z, seen.along_m, 1.35, 1.5)
        kerb = _inside(side, layout.half_m, layout.half_m + 0.25, pixel)
        paved = (0.55 + 0.05 * tar_grain) * slabs * (1 + 0.35 * kerb)
        colour = _over(colour, paved[..., None] * np.array((1, 0.97, 0.92)), walk * (1 - crossing))
    road = np.maximum(_inside(side, -1.0, layout.half_m, pixel), crossing)
    if layout.median_m:
        road *= 1 - _inside(side, -1.0, layout.median_m / 2 - 0.3, pixel)
    colour = _over(colour, tar, road)
    marks = np.maximum(_marks(camera, seen, layout) * (1 - crossing), stripes)
    worn = np.clip(0.85 + 0.12 * tar_grain, 0.3, 1.0) * (1 - 0.55 * air.snow)
    colour = _over(colour, soil.paint, marks * worn)
    if air.snow:
        lying = np.clip(1.1 - 0.9 * road + 0.22 * patches * road, 0, 0.9)
        tracks = _wheel_tracks(seen.l, layout)[..., 0]
        lying = lying - (tracks < 0.97) * 0.15 * road
        white = np.array((0.86, 0.88, 0.93)) * (1 + 0.05 * earth_grain[..., None])
        colour = _over(colour, white, lying.clip(0, 0.95))
    lit = air.ambient + air.headlight(seen.x, seen.z)[..., None] * np.array((1.0, 0.93, 0.78))
    if air.dark and layout.pavement_m:
        lit = lit + air.dark * _street_light(camera, seen)[..., None] * np.array((1, 0.75, 0.42))
    colour = colour * lit
    if air.wet:
        mirror = 0.42 * road * np.clip(seen.z / 25, 0.12, 1.0) * (1 + 0.25 * patches)
        colour = _over(colour, air.haze, mirror.clip(0, 0.8))
    clear = air.clearness(seen.z)[..., None]
    colour = colour * clear + air.haze * (1 - clear)
    picture[seen.top :] = (255 * colour).clip(0, 255).astype(np.uint8)
    return seen.top


def _over(under: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.asarray(under + (colour - under) * share[..., None])


def _inside(value: np.ndarray, low: float, high: float, pixel: np.ndarray) -> np.ndarray:
    """Return the share of a pixel's width between two bounds."""
    upper = np.clip((high - value) / pixel + 0.5, 0, 1)
    lower = np.clip((value - low) / pixel + 0.5, 0, 1)
    return np.asarray(upper + lower - 1).clip(0, 1)


def _dashes(s: np.ndarray, along: np.ndarray, length: float, period: float) -> np.ndarray:
    """Return the share of a pixel's length that lies on dashes, exactly."""

    def painted(x: np.ndarray) -> np.ndarray:
        return np.floor(x / period) * length + np.minimum(x % period, length)

    return np.asarray((painted(s + along / 2) - painted(s - along / 2)) / along)


def _grain(camera: Camera, seen: Strip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    level = np.log2(seen.along_m / GRAIN_M).round().clip(0, GRAIN_LEVELS - 1)
    s = ((camera.s + seen.z) / GRAIN_M) % GRAIN_TEXELS
    rows = level * (GRAIN_TEXELS + 2) + 1 + s
    columns = (seen.l / GRAIN_M) % GRAIN_TEXELS
    rows = np.broadcast_to(rows, columns.shape).astype(np.float32)
    taken = cv2.remap(ground_grain(), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return taken[..., 0], taken[..., 1], taken[..., 2]


def _wheel_tracks(l: np.ndarray, layout: Layout) -> np.ndarray:  # noqa: E741
    in_lane = (np.abs(l) - layout.median_m / 2) % LANE_M - LANE_M / 2
    return np.asarray(1 - 0.14 * np.exp(-(((np.abs(in_lane) - 0.8) / 0.3) ** 2)))[..., None]


def _marks(camera: Camera, seen: Strip, layout: Layout) -> np.ndarray:
    """Return the share of each pixel under lane marks."""
    side, pixel = np.abs(seen.l), seen.z / camera.focal
    dashed = _dashes(camera.s + seen.z, seen.along_m, DASH_M, DASH_PERIOD_M)
    outer = layout.median_m / 2 + layout.lanes * LANE_M
    total = _inside(side, outer - MARK_M / 2, outer + MARK_M / 2, pixel)
    if layout.median_m:
        inner = layout.median_m / 2
        total = total + _inside(side, inner - MARK_M / 2, inner + MARK_M / 2, pixel)
    else:
        total = total + dashed * _inside(side, -1.0, MARK_M / 2, pixel)
    for lane in range(1, layout.lanes):
        at = layout.median_m / 2 + lane * LANE_M
        total = total + dashed * _inside(side, at - MARK_M / 2, at + MARK_M / 2, pixel)
    return np.asarray(total.clip(0, 1))


def _crossings(camera: Camera, seen: Strip) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of each pixel under crossing roads and under their zebra stripes."""
    layout, s = camera.road.layout, camera.s + seen.z
    crossing, stripes = np.zeros_like(s), np.zeros_like(seen.l)
    half = CROSSING_M / 2
    for _, at in camera.road.crossings(camera.s - 5, camera.s + 150):
        crossing = crossing + _inside(s, at - half, at + half, seen.along_m)
        if layout.pavement_m:
            band = _inside(s, at - half - 3.6, at - half - 0.8, seen.along_m)
            bars = _dashes(seen.l, seen.z / camera.focal, 0.5, 1.0)
            bars = bars * (np.abs(seen.l) < layout.half_m - layout.shoulder_m)
            stripes = np.maximum(stripes, band * bars)
    return np.broadcast_to(crossing, seen.l.shape), stripes


def _street_light(camera: Camera, seen: Strip) -> np.ndarray:
    """Return pools of light below lamps, which stand every 30 m on both sides."""
    half = camera.road.layout.half_m
    along = (camera.s + seen.z) % 30 - 15
    across = np.abs(seen.l) - half
    return np.asarray(0.55 * np.exp(-((along / 7) ** 2) - (across / 4.5) ** 2))
