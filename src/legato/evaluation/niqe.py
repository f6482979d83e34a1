"""NIQE: how far a picture's statistics lie from those of good photographs; no reference needed.

Mittal et al. 2013, doi:10.1109/LSP.2012.2227726. The pristine model is fitted by this project on
the photographs in the embedded model's card (`benchmarks/fit_niqe.py`), so figures compare only
with others of this program, not with those of papers: hence the name "NIQE (Legato's fit)".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from legato.errors import InputError, ModelError
from legato.tensor_file import save_tensors

PATCH_PX = 96
MIN_PATCHES = 4
"""A covariance of fewer patches says nothing."""

TOO_FEW_PATCHES = f"it needs {MIN_PATCHES} of {PATCH_PX}x{PATCH_PX} pixels that are not flat"

MODEL_FILE = Path(__file__).with_name("niqe.safetensors")
_SHARPEST_SHARE = 0.75
_WINDOW_PX, _WINDOW_SIGMA_PX = 7, 7 / 6
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows down, columns right
_SHAPES = np.arange(0.2, 10.001, 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class NaturalModel:
    """A Gaussian over the 36 features of a patch: 18 at each of two scales."""

    mean: Float[ndarray, "36"]
    covariance: Float[ndarray, "36 36"]

    @classmethod
    def fit(cls, photographs: Iterable[UInt8[ndarray, "H W 3"]]) -> "NaturalModel":
        """Return the model of the sharp patches of photographs (section 2.2 of the paper).

        A patch is sharp where its mean local deviation exceeds 3/4 of its photograph's largest.

        Raises:
            InputError: there are too few patches.
        """
        chosen = []
        for photograph in photographs:
            features, sharpness = _features(photograph)
            if len(features):
                chosen.append(features[sharpness > _SHARPEST_SHARE * sharpness.max()])
        return cls._of(np.concatenate([np.zeros((0, 36)), *chosen]))

    @classmethod
    def load(cls, path: Path = MODEL_FILE) -> "NaturalModel":
        """Return the model in a file, by default the one that comes with Legato.

        Raises:
            ModelError: the file is missing or damaged.
        """
        try:
            tensors = load_file(path)
            return cls(mean=tensors["mean"], covariance=tensors["covariance"])
        except (OSError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"NIQE model {path}",
                why=" ".join(str(error).split()),
                fix="install Legato again, or fit one with benchmarks/fit_niqe.py",
            ) from error

    def save(self, path: Path) -> None:
        """Write the model to a safetensors file.

        Raises:
            OSError: the system refuses, as where the disk is full.
        """
        arrays = {"mean": self.mean, "covariance": self.covariance}
        save_tensors(
            {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}, path
        )

    def distance(self, picture: UInt8[ndarray, "H W 3"]) -> float:
        """Return NIQE of a picture: about 2 to 4 for good photographs; lower is more natural.

        D^2 = (m - m')^T ((S + S') / 2)^-1 (m - m') over all patches (eq. 10).

        Raises:
            InputError: the picture holds less than four patches of 96x96.
        """
        other = self._of(_features(picture)[0])
        difference = self.mean - other.mean
        inverse = np.linalg.pinv((self.covariance + other.covariance) / 2)
        return float(np.sqrt(max(0.0, difference @ inverse @ difference)))

    @classmethod
    def _of(cls, features: Float[ndarray, "patches 36"]) -> "NaturalModel":
        # a flat patch, such as a black bar, has no statistics
        features = features[np.isfinite(features).all(axis=1)]
        if len(features) < MIN_PATCHES:
            raise InputError(
                f"NIQE of {len(features)} patches",
                why=TOO_FEW_PATCHES,
                fix="measure larger pictures",
            )
        return cls(mean=features.mean(axis=0), covariance=np.cov(features, rowvar=False))


def _features(
    picture: UInt8[ndarray, "H W 3"],
) -> tuple[Float[ndarray, "patches 36"], Float[ndarray, "patches"]]:
    """Return the features of each patch, and its sharpness; both scales cover the same patches."""
    rows, cols = (side // PATCH_PX * PATCH_PX for side in picture.shape[:2])
    if not rows * cols:
        return np.zeros((0, 36)), np.zeros(0)
    luma = cv2.cvtColor(np.asarray(picture[:rows, :cols]), cv2.COLOR_RGB2GRAY).astype(np.float64)
    normalised, deviation = _normalise(luma)
    half = cv2.resize(luma, (cols // 2, rows // 2), interpolation=cv2.INTER_AREA)
    scales = ((normalised, PATCH_PX), (_normalise(half)[0], PATCH_PX // 2))
    features = np.concatenate([_statistics(x, size) for x, size in scales], axis=1)
    return features, _patches(deviation, PATCH_PX).mean(axis=1)


def _normalise(luma: Float[ndarray, "H W"]) -> tuple[Float[ndarray, "H W"], Float[ndarray, "H W"]]:
    """Return mean-subtracted, contrast-normalised coefficients and local deviations (eq. 1-3)."""
    mean = _local_mean(luma)
    deviation = np.sqrt(np.maximum(_local_mean(luma * luma) - mean * mean, 0))
    return (luma - mean) / (deviation + 1), deviation


def _local_mean(x: Float[ndarray, "H W"]) -> Float[ndarray, "H W"]:
    window = (_WINDOW_PX, _WINDOW_PX)
    return np.asarray(
        cv2.GaussianBlur(x, window, _WINDOW_SIGMA_PX, borderType=cv2.BORDER_REPLICATE)
    )


def _statistics(x: Float[ndarray, "H W"], size: int) -> Float[ndarray, "patches 18"]:
    """Return shape and spread of the coefficients, and of their products with four neighbours."""
    shape, left, right, _ = _asymmetric_gaussian(_patches(x, size))
    columns = [shape, (left + right) / 2]
    for step in _NEIGHBOURS:
        product = x * np.roll(x, step, axis=(0, 1))
        shape, left, right, mean = _asymmetric_gaussian(_patches(product, size))
        columns += [shape, mean, left, right]
    return np.stack(columns, axis=1)


def _patches(x: Float[ndarray, "H W"], size: int) -> Float[ndarray, "patches pixels"]:
    rows, cols = (side // size for side in x.shape)
    tiles = x.reshape(rows, size, cols, size).swapaxes(1, 2)
    return np.asarray(tiles.reshape(rows * cols, size * size))


def _asymmetric_gaussian(
    samples: Float[ndarray, "patches pixels"],
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Fit asymmetric generalised Gaussians by moments: shape, left and right scale, mean.

    Lasmar et al. 2009, as in eq. 5 to 8 of the paper. NaN where all samples are alike.
    """
    negative, positive = samples < 0, samples > 0
    left, right = _deviation(samples, negative), _deviation(samples, positive)
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = left / right
        ratio = np.abs(samples).mean(axis=1) ** 2 / np.square(samples).mean(axis=1)
        ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    known = np.isfinite(ratio)
    shape = np.where(known, np.interp(ratio, _moment_ratios(), _SHAPES), np.nan)
    log_1, log_2, log_3 = (_log_gamma(k / shape) for k in (1, 2, 3))
    scale = np.exp((log_1 - log_3) / 2)
    left, right = left * scale, right * scale
    return shape, left, right, (right - left) * np.exp(log_2 - log_1)


def _deviation(
    samples: Float[ndarray, "patches pixels"], chosen: Bool[ndarray, "patches pixels"]
) -> Float[ndarray, "patches"]:
    total = np.where(chosen, np.square(samples), 0).sum(axis=1)
    return np.asarray(np.sqrt(total / np.maximum(chosen.sum(axis=1), 1)))


@cache
def _moment_ratios() -> Float[ndarray, "shapes"]:
    """(E|x|)^2 / E x^2 of generalised Gaussians: gamma(2/a)^2 / (gamma(1/a) gamma(3/a)), rising."""
    log_1, log_2, log_3 = (_log_gamma(k / _SHAPES) for k in (1, 2, 3))
    return np.asarray(np.exp(2 * log_2 - log_1 - log_3))


def _log_gamma(x: Float[ndarray, "n"]) -> Float[ndarray, "n"]:
    return np.asarray(torch.lgamma(torch.from_numpy(np.asarray(x, np.float64))).numpy())
