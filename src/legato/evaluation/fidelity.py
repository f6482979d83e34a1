"""How close an output is to the truth, pixel by pixel and by eye."""

import math
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray

from legato.errors import InputError
from legato.evaluation.lpips import PerceptualDistance

IDENTICAL_DB = 100.0
"""PSNR of a frame without any error, instead of infinity, so that means stay finite."""

Planes = Literal["rgb", "luma", "y"]
"""What is compared: `luma` is 0.299 R + 0.587 G + 0.114 B, rounded; `y` is the luma of video, 16 to
235 and not rounded (ITU-R BT.601), which papers on super-resolution mean by "on Y"."""

_WINDOW_PX, _WINDOW_SIGMA_PX = 11, 1.5
_VIDEO_LUMA = np.array((65.481, 128.553, 24.966)) / 255
_VIDEO_BLACK = 16
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(
    clip: UInt8[ndarray, "T H W 3"], truth: UInt8[ndarray, "T H W 3"], *, on: Planes = "rgb"
) -> float:
    """Return the mean over frames of 10 log10(255^2 / MSE), in dB.

    Args:
        clip: what is judged.
        truth: what it should be.
        on: the planes that are compared.

    Raises:
        InputError: the clips have no frame, or differ in size or length.
    """
    require_same_shape(clip, truth)
    scores = []
    for a, b in zip(clip, truth, strict=True):
        difference = _planes(a, on) - _planes(b, on)
        error = float(np.square(difference).mean(dtype=np.float64))
        scores.append(10 * math.log10(255**2 / error) if error else IDENTICAL_DB)
    return float(np.mean(scores))


def ssim(
    clip: UInt8[ndarray, "T H W 3"], truth: UInt8[ndarray, "T H W 3"], *, on: Planes = "luma"
) -> float:
    """Return structural similarity, mean over pixels, planes and frames; 1 is identical.

    Gaussian window of 11 pixels and deviation 1.5, borders reflected (Wang et al. 2004,
    doi:10.1109/TIP.2003.819861, eq. 13).

    Args:
        clip: what is judged.
        truth: what it should be.
        on: the planes that are compared.

    Raises:
        InputError: the clips have no frame, or differ in size or length.
    """
    require_same_shape(clip, truth)
    scores = []
    for a, b in zip(clip, truth, strict=True):
        x, y = (_planes(p, on).astype(np.float64) for p in (a, b))
        mean_x, mean_y = _local_mean(x), _local_mean(y)
        variances = _local_mean(x * x) - mean_x**2 + _local_mean(y * y) - mean_y**2
        covariance = _local_mean(x * y) - mean_x * mean_y
        light = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
        scores.append(float((light * (2 * covariance + _C2) / (variances + _C2)).mean()))
    return float(np.mean(scores))


def perceptual(
    clip: UInt8[ndarray, "T H W 3"],
    truth: UInt8[ndarray, "T H W 3"],
    distance: PerceptualDistance,
) -> float:
    """Return the mean over frames of a learned distance, such as LPIPS; 0 is identical.

    Args:
        clip: what is judged.
        truth: what it should be.
        distance: from `legato.evaluation.lpips.load_lpips`.

    Raises:
        InputError: the clips have no frame, or differ in size or length.
    """
    require_same_shape(clip, truth)
    with torch.inference_mode():
        scores = [
            float(distance(_to_model(a), _to_model(b))) for a, b in zip(clip, truth, strict=True)
        ]
    return float(np.mean(scores))


def require_same_shape(clip: ndarray, truth: ndarray) -> None:
    """Refuse clips that cannot be compared.

    Raises:
        InputError: the clips have no frame, or differ in size or length.
    """
    if clip.shape != truth.shape or not len(clip):
        raise InputError(
            f"clips of {clip.shape} and {truth.shape}",
            why="only clips of the same frames, rows and columns can be compared",
            fix="compare an output with its own ground truth",
        )


def _planes(picture: UInt8[ndarray, "H W 3"], on: Planes) -> Float[ndarray, "H W *planes"]:
    if on == "rgb":
        return picture.astype(np.float32)
    if on == "luma":
        return np.asarray(cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY), np.float32)
    return np.asarray(picture @ _VIDEO_LUMA + _VIDEO_BLACK, np.float64)


def _local_mean(x: Float[ndarray, "H W *planes"]) -> Float[ndarray, "H W *planes"]:
    window = (_WINDOW_PX, _WINDOW_PX)
    return np.asarray(cv2.GaussianBlur(x, window, _WINDOW_SIGMA_PX))


def _to_model(picture: UInt8[ndarray, "H W 3"]) -> Float[torch.Tensor, "1 3 H W"]:
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
