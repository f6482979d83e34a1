"""What a driving clip shows, by its pixels: own speed and direction, lane, car ahead, drift.

All assume the camera of `driving_camera` on a road that is nearly flat and straight for 20 m, and
look at frames of 128 columns: larger ones are reduced. They are coarse:
`tests/evaluation/test_driving_state.py` states their errors on scenes whose truth is known.
"""

from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from legato.evaluation.lattice import LUMA
from legato.evaluation.steadiness import correspondences
from legato.flow.driving_camera import (
    CAMERA_HEIGHT_M,
    FOCAL,
    HORIZON,
    LANE_M,
    ground_columns,
    ground_rows,
)

NEAREST_M, FURTHEST_M, STEP_M = 4.0, 13.0, 0.1
SPEEDS = (-4.0, 22.0)
"""Metres per second that are looked for, and
"""
SHIFTS_M = (-2.5, 6.5)
"""metres per frame: of these two ranges the narrower."""
_LATERAL_M = np.arange(-6.0, 6.01, 0.2)
_BAND = 10
_ENLARGED = 3
_COLUMNS = 128
_CONTRAST, _FURTHEST_PX = 20.0, 2.0
"""Least gradient, 8-bit, of what tells of turning, and the most that a pixel's movement counts."""


def own_speed(clip: UInt8[ndarray, "T H W 3"], frame_rate: float) -> Float[ndarray, " T-1"]:
    """Return the own speed between neighbouring frames, m/s; negative: backwards.

    The ground from 4 to 13 m ahead, seen from above, is compared with itself moved along the road;
    the correlation is summed over strips of it, so that no single car decides, and over each pair's
    neighbours in time.

    Args:
        clip: frames that show the road.
        frame_rate: per second; above 6.5 m per frame the speed is not found.
    """
    views = [_detail(_from_above(frame)) for frame in _reduced(clip)]
    low, high = (
        round(limit / STEP_M)
        for limit in (
            max(SHIFTS_M[0], SPEEDS[0] / frame_rate),
            min(SHIFTS_M[1], SPEEDS[1] / frame_rate),
        )
    )
    shifts = np.arange(low, high + 1)
    pairs = pairwise(views)
    scores = np.array([[_agreement(a, b, int(k)) for k in shifts] for a, b in pairs])
    padded = np.pad(scores, ((1, 1), (0, 0)))
    together = padded[:-2] + padded[1:-1] + padded[2:]
    return np.array([_peak(row, shifts) for row in together]) * STEP_M * frame_rate


def nearing(clip: UInt8[ndarray, "T H W 3"]) -> Float[ndarray, " T-1"]:
    """Return how far what is seen moves away from the point ahead, pixels per frame.

    Positive: everything comes nearer, the own car moves forwards. The flow (DIS, of frames enlarged
    three times) where it can be believed, without that of the distance ahead (the car's own turning
    and nodding), towards the margins; the mean over pixels by their contrast. Its sign is the
    direction of motion: unlike `own_speed` it needs no grain on the road, but knows no metres.
    """
    scale, clip = max(1.0, clip.shape[2] / _COLUMNS), _reduced(clip)
    rows, columns = (_ENLARGED * n for n in clip.shape[1:3])
    large = np.stack([cv2.resize(f, (columns, rows), interpolation=cv2.INTER_CUBIC) for f in clip])
    y, x = np.mgrid[:rows, :columns]
    away = np.stack((x - columns / 2, y - HORIZON * rows))
    distance = np.hypot(*away)
    is_ahead = (np.abs(away[0]) < 0.15 * columns) & (np.abs(away[1]) < 0.12 * rows)
    is_beside = distance > 0.12 * rows
    found = []
    for frame, pair in zip(large, correspondences(large), strict=False):
        luma = frame.astype(np.float32) @ LUMA
        contrast = np.hypot(cv2.Sobel(luma, -1, 1, 0), cv2.Sobel(luma, -1, 0, 1))
        flow, seen = pair.flow[0].numpy(), pair.valid[0, 0].numpy()
        far = is_ahead & seen & (contrast > _CONTRAST)
        turning = np.median(flow[:, far], axis=1) if far.any() else 0
        outwards = ((flow.T - turning).T * away).sum(axis=0) / np.maximum(distance, 1) / _ENLARGED
        weight = contrast * (seen & is_beside)
        limited = outwards.clip(-_FURTHEST_PX, _FURTHEST_PX)
        found.append((weight * limited).sum() / max(weight.sum(), 1.0))
    return np.asarray(scale * np.array(found))


def lane_offset(
    clip: UInt8[ndarray, "T H W 3"],
) -> tuple[Float[ndarray, " T"], Float[ndarray, " T"]]:
    """Return how far right of its lane's centre the camera is, in metres, and how clearly.

    Narrow bright lines are summed along straight paths of several slants; the offset is where two
    of them lie a lane apart. Clearness is their height over the median, in standard deviations.
    """
    found = [_lane(_from_above(frame)) for frame in _reduced(clip)]
    offsets, clearness = zip(*found, strict=True)
    return np.array(offsets), np.array(clearness)


def car_ahead(clip: UInt8[ndarray, "T H W 3"]) -> Float[ndarray, " T"]:
    """Return the distance of the vehicle ahead in the own lane, in metres; nan: none within 40 m.

    From near to far, the first place where what stands over the lane (to a height of 0.7 m) differs
    from the asphalt before it.
    """
    return np.array([_first_obstacle(frame) for frame in _reduced(clip)])


def colour_drift(clip: UInt8[ndarray, "T H W 3"], frames: int) -> tuple[float, float]:
    """Return how far the last frames are from the first in mean colour and in contrast.

    Args:
        clip: at least twice as many frames as are compared.
        frames: at either end.

    Returns:
        Root mean square over RGB of the difference of means, and the difference of the standard
        deviations of luma, both in 8-bit units.
    """
    ends = [part.reshape(-1, 3).astype(np.float64) for part in (clip[:frames], clip[-frames:])]
    means = ends[1].mean(axis=0) - ends[0].mean(axis=0)
    contrasts = [(end @ LUMA).std() for end in ends]
    return float(np.sqrt((means**2).mean())), float(abs(contrasts[1] - contrasts[0]))


def _reduced(clip: UInt8[ndarray, "T H W 3"]) -> UInt8[ndarray, "T h w 3"]:
    """Return frames of at most `_COLUMNS`, the size that the measurements' errors are known for."""
    rows, columns = clip.shape[1:3]
    if columns <= _COLUMNS:
        return clip
    size = (_COLUMNS, round(rows * _COLUMNS / columns))
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in clip])


def _from_above(frame: UInt8[ndarray, "H W 3"]) -> Float[ndarray, "R K"]:
    """Return luma in [0, 1] on a grid of places: far to near along the road, left to right."""
    rows, columns = frame.shape[:2]
    z = np.arange(NEAREST_M, FURTHEST_M, STEP_M)
    x = ground_columns(z, _LATERAL_M, columns)
    y = np.broadcast_to(ground_rows(z, rows, columns)[:, None], x.shape)
    luma = frame.astype(np.float32) @ LUMA / 255
    at = [(v - 0.5).astype(np.float32) for v in (x, y)]
    seen = cv2.remap(luma, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen)


def _detail(view: Float[ndarray, "R K"]) -> Float[ndarray, "R K"]:
    """Remove what is constant along the road over 4 m, and a frame's own brightness."""
    smooth = cv2.blur(view, (1, round(4 / STEP_M)), borderType=cv2.BORDER_REFLECT)
    return np.asarray((view - smooth) / (smooth + 0.05))


def _peak(scores: Float[ndarray, " S"], shifts: ndarray) -> float:
    """Return the shift of the highest score, between grid points by a parabola."""
    best = int(scores.argmax())
    if not 0 < best < len(scores) - 1:
        return float(shifts[best])
    left, top, right = scores[best - 1 : best + 2]
    bend = left - 2 * top + right
    return float(shifts[best] + (0.5 * (left - right) / bend if bend else 0.0))


def _agreement(a: Float[ndarray, "R K"], b: Float[ndarray, "R K"], shift: int) -> float:
    p = a[shift:] if shift >= 0 else a[:shift]
    q = b[: len(p)] if shift >= 0 else b[-shift:]
    total = 0.0
    for first in range(0, p.shape[1] - _BAND + 1, _BAND):
        u, v = p[:, first : first + _BAND], q[:, first : first + _BAND]
        u, v = u - u.mean(), v - v.mean()
        total += float((u * v).sum() / (np.sqrt((u**2).sum() * (v**2).sum()) + 0.05))
    return total


def _lane(view: Float[ndarray, "R K"]) -> tuple[float, float]:
    step = float(_LATERAL_M[1] - _LATERAL_M[0])
    ridge = view - 0.5 * (np.roll(view, 2, axis=1) + np.roll(view, -2, axis=1))
    ridge = (ridge / (view + 0.1)).clip(0, 0.6)[:, 2:-2]
    z = np.arange(len(ridge)) * STEP_M
    across = _LATERAL_M[2:-2]
    candidates = np.arange(-LANE_M / 2, LANE_M / 2, 0.05)
    best, highest, clearness = 0.0, -np.inf, 0.0
    for slant in np.linspace(-0.12, 0.12, 9):
        columns = (np.arange(len(across)) + slant * z[:, None] / step).clip(0, len(across) - 1)
        profile = np.take_along_axis(ridge, columns.round().astype(int), axis=1).mean(axis=0)
        sides = [np.interp(s * LANE_M / 2 - candidates, across, profile) for s in (-1, 1)]
        score = np.minimum(*sides) + 0.3 * np.maximum(*sides)
        k = int(score.argmax())
        clear = float((score[k] - np.median(score)) / (score.std() + 1e-4))
        if score[k] > highest:
            best, highest, clearness = float(candidates[k]), float(score[k]), clear
    return best, clearness


def _first_obstacle(frame: UInt8[ndarray, "H W 3"]) -> float:
    rows, columns = frame.shape[:2]
    picture = frame.astype(np.float32)
    focal = FOCAL * columns
    seen: list[np.ndarray] = []
    for z in np.geomspace(5.0, 40.0, 36):
        bottom = HORIZON * rows + focal * CAMERA_HEIGHT_M / z
        half, tall = focal * 0.65 / z, focal * 0.7 / z
        left, right = round(columns / 2 - half), round(columns / 2 + half) + 1
        top = max(int(bottom - tall), 0)
        patch = picture[top : max(int(bottom), top + 1), left:right].reshape(-1, 3)
        road = picture[int(bottom) : int(bottom) + max(1, int(tall * 0.6)), left:right]
        seen.append(road.reshape(-1, 3).mean(axis=0))
        near = np.median(seen[-6:], axis=0)
        spread = 9 + 0.22 * near.mean()
        if np.abs(patch - near).max(axis=1).mean() > 1.6 * spread:
            return float(z)
    return float("nan")
