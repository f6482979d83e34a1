"""Clips that are partly out of focus, as those of a camera with a shallow depth of field are.

What lies before or behind the plane of focus is smooth in truth; an upscaler that never learned
from such places draws texture on them.
"""

import math

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from legato.training import kernels

RADIUS_PX = (1.2, 6.0)
"""Of the circle of confusion, smallest and largest."""
WHOLE_SHARE = 0.3
"""Of clips that are out of focus everywhere."""
REGION_SHARE = (0.2, 0.9)
"""Of a frame that lies in a region out of focus, smallest and largest."""


def out_of_focus(
    clip: UInt8[ndarray, "T H W 3"], rng: np.random.Generator
) -> UInt8[ndarray, "T H W 3"]:
    """Return the clip with a smooth region, the same in all frames, out of focus.

    Args:
        clip: of one shot.
        rng: decides on region, radius and shape of the blur.
    """
    radius = math.exp(rng.uniform(*np.log(RADIUS_PX)))
    size = 2 * math.ceil(1.5 * radius) + 1
    is_soft = rng.random() < 0.5
    kernel = (
        kernels.gaussian(size, radius / 2, radius / 2)
        if is_soft
        else kernels.plateau(size, radius, radius, beta=6.0)  # nearly a disc
    )
    mask = np.ones(clip.shape[1:3], np.float32)
    if rng.random() >= WHOLE_SHARE:
        mask = _region(clip.shape[1], clip.shape[2], rng)
    mask = mask[..., None]
    blurred = [cv2.filter2D(f, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for f in clip]
    mixed = clip * (1 - mask) + np.stack(blurred) * mask
    return np.asarray(mixed.round().astype(np.uint8))


def _region(rows: int, columns: int, rng: np.random.Generator) -> Float32[ndarray, "H W"]:
    """Return how far each place is out of focus, 0..1, with an edge that is hard or gradual."""
    cells = int(rng.integers(2, 5))
    heights = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    field = cv2.resize(heights, (columns, rows), interpolation=cv2.INTER_CUBIC)
    edge = np.quantile(field, 1 - rng.uniform(*REGION_SHARE))
    sharpness = math.exp(rng.uniform(1, 4))
    return np.asarray(0.5 + 0.5 * np.tanh((field - edge) * sharpness / 2), np.float32)
