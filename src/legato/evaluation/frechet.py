"""Distance of two sets of clips in the features of fixed random networks.

No substitute for FVD or FID, and never called so: random features see whether frames belong
together (aligned against independent frames: 40 times), hardly their order. Always told beside its
floor, the distance of two halves of the truth.
"""

from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import nn

from legato.errors import InputError

WIDTHS = (16, 32, 64)
SEED = 20230419


def random_features(
    clips: UInt8[ndarray, "N T H W 3"], kind: Literal["video", "frame"]
) -> Float[ndarray, "M D"]:
    """Return features of clips, or of all their frames: mean and deviation of every channel.

    Three convolutions with weights from a fixed seed, each followed by a leaky ReLU, halve rows and
    columns; those of `video` reach over three frames.
    """
    generator = torch.Generator().manual_seed(SEED)
    network = nn.Sequential()
    channels = 3
    for width in WIDTHS:
        conv = (
            nn.Conv3d(channels, width, 3, (1, 2, 2), 1)
            if kind == "video"
            else nn.Conv2d(channels, width, 3, 2, 1)
        )
        for parameter in conv.parameters():
            spread = (2 / conv.weight[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.data = spread * torch.randn(parameter.shape, generator=generator)
        network.extend([conv, nn.LeakyReLU(0.2)])
        channels = width
    features = []
    with torch.no_grad():
        for clip in clips:
            frames = torch.from_numpy(clip.astype(np.float32) / 127.5 - 1)
            order = "t h w c -> 1 c t h w" if kind == "video" else "t h w c -> t c h w"
            out = network(rearrange(frames, order)).flatten(2)
            features.append(torch.cat((out.mean(-1), out.std(-1)), dim=1))
    return torch.cat(features).double().numpy()


def frechet_distance(
    real: Float[ndarray, "N D"], made: Float[ndarray, "M D"], *, scale: Float[ndarray, "K D"]
) -> float:
    """Return |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of features over the scale's deviations.

    Dowson and Landau 1982, eq. 4. Covariances of few samples are shrunk towards their diagonal, the
    same for both sets: as far as the smaller one has to be.

    Args:
        real: features.
        made: features that are compared with them.
        scale: features whose standard deviations are the units.

    Raises:
        InputError: a set has fewer than two samples.
    """
    if min(len(real), len(made)) < 2:
        raise InputError(
            f"a distance of {len(real)} and {len(made)} samples",
            why="a covariance needs two",
            fix="use more clips",
        )
    unit = scale.std(axis=0) + 1e-8
    fewest = min(len(real), len(made))
    (m, s), (m2, s2) = (_moments(x / unit, fewest) for x in (real, made))
    return distance_of_moments(m, s, m2, s2)


def distance_of_moments(
    m: Float[ndarray, " D"],
    s: Float[ndarray, "D D"],
    m2: Float[ndarray, " D"],
    s2: Float[ndarray, "D D"],
) -> float:
    """Return |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of two means and covariances.

    tr((S S')^(1/2)) = tr((S^(1/2) S' S^(1/2))^(1/2)), whose matrix is symmetric.
    """
    root = _square_root(s)
    cross = np.linalg.eigvalsh(root @ s2 @ root)
    spread = np.trace(s) + np.trace(s2) - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(((m - m2) ** 2).sum() + spread)


def _moments(
    x: Float[ndarray, "N D"], fewest: int
) -> tuple[Float[ndarray, " D"], Float[ndarray, "D D"]]:
    """Return mean and covariance, shrunk as that of the smallest set has to be."""
    shrink = min(1.0, x.shape[1] / (x.shape[1] + fewest))
    covariance = np.cov(x, rowvar=False)
    return x.mean(axis=0), (1 - shrink) * covariance + shrink * np.diag(np.diag(covariance))


def _square_root(s: Float[ndarray, "D D"]) -> Float[ndarray, "D D"]:
    values, vectors = np.linalg.eigh(s)
    root: Float[ndarray, "D D"] = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
