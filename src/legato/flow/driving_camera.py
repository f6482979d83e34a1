"""The camera and the road marks of the driving scenes: what renderer and measurements share.

Road coordinates: s, metres along the road; l, metres to the right of its centre line; y, metres up.
A pinhole camera looks along the road: column = cx + f x / z, row = horizon + f (h - y) / z, with x
to the right of the camera and z ahead of it, both in metres.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

FOCAL = 0.72
"""Focal length in picture widths: 70 degrees from side to side."""
HORIZON = 0.42
"""Row of the horizon in picture heights, on a flat road with the camera level."""
CAMERA_HEIGHT_M = 1.4
LANE_M = 3.5
MARK_M = 0.16
DASH_M, DASH_PERIOD_M = 4.0, 12.0
"""Length of a dash between lanes, and from one dash to the next."""


def ground_columns(
    distance_m: Float[ndarray, "R"], lateral_m: Float[ndarray, "K"], width_px: int
) -> Float[ndarray, "R K"]:
    """Return the columns of points on a straight flat road, given x to the camera's right."""
    columns = width_px / 2 + FOCAL * width_px * lateral_m[None] / distance_m[:, None]
    return np.asarray(columns)


def ground_rows(
    distance_m: Float[ndarray, "R"], height_px: int, width_px: int
) -> Float[ndarray, "R"]:
    """Return the rows at which a flat road lies at these distances, camera level."""
    return np.asarray(HORIZON * height_px + FOCAL * width_px * CAMERA_HEIGHT_M / distance_m)
