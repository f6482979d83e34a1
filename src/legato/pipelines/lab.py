"""CIELAB, where lightness and colour can be told apart.

sRGB, D65. Values are on the scale of 8 bits: L from 0 to 255, a and b about -128 to 127.
"""

import cv2
import numpy as np
from jaxtyping import Float
from numpy import ndarray

_LIGHTNESS = 255 / 100
_KNEE = 0.04045  # of the sRGB curve: below it is a line


def to_lab(rgb: Float[ndarray, "H W 3"]) -> Float[ndarray, "H W 3"]:
    """Return RGB in [0, 1] as Lab; there and back again is exact to a tenth of a level of 255.

    OpenCV's own way from sRGB is a table that steps by half a level, so light is made linear here.
    """
    values = rgb.astype(np.float32)
    linear = np.asarray(cv2.pow((values + np.float32(0.055)) * np.float32(1 / 1.055), 2.4))
    np.copyto(linear, values * np.float32(1 / 12.92), where=values <= _KNEE)
    lab = np.asarray(cv2.cvtColor(linear, cv2.COLOR_LRGB2Lab))
    lab[..., 0] *= _LIGHTNESS
    return lab


def from_lab(lab: Float[ndarray, "H W 3"]) -> Float[ndarray, "H W 3"]:
    """Return Lab as RGB in [0, 1]; colours that a screen cannot show are clipped."""
    lab = lab.astype(np.float32)  # a copy
    lab[..., 0] /= _LIGHTNESS
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB))
