"""Figures of a whole set of clips: FID, FVD and the inception score, through networks of the user.

FID (Heusel et al. 2017, arXiv:1706.08500) and FVD (Unterthiner et al. 2018, arXiv:1812.01717):
squared Frechet distance of features, full covariances. IS (Salimans et al. 2016, arXiv:1606.03498):
of clips, as Video LDM (Blattmann et al. 2023, arXiv:2304.08818) tells it.
Differs: the paper draws 10,000 frames of its clips for FID at random; here every judged one counts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from legato.evaluation.clips import Picture
from legato.evaluation.evaluate_options import CLIP_FRAMES
from legato.evaluation.frechet import distance_of_moments
from legato.evaluation.scripted_network import ScriptedNetwork

PARTS, MIN_PER_PART = 10, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeFigure:
    """A figure of all clips together."""

    title: str
    value: float
    better: Literal["higher", "lower"]
    samples: str
    """What it was computed from."""


class Moments:
    """Mean and covariance of features that come in batches; none of them is kept.

    Chan et al. 1979: M += M' + d d^T n n' / (n + n'), d the distance of the means.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Float[ndarray, " D"] = np.zeros(0)
        self._scatter: Float[ndarray, "D D"] = np.zeros((0, 0))

    def add(self, x: Float[ndarray, "N D"]) -> None:
        """Take in a batch; all have features of one length."""
        if not self.count:
            self._mean, self._scatter = np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2)
        mean, total = x.mean(axis=0), self.count + len(x)
        apart, centred = mean - self._mean, x - mean
        self._scatter += centred.T @ centred
        self._scatter += np.outer(apart, apart) * (self.count * len(x) / total)
        self._mean = self._mean + apart * (len(x) / total)
        self.count = total

    @property
    def dimensions(self) -> int:
        """Length of a feature."""
        return len(self._mean)

    def finish(self) -> tuple[Float[ndarray, " D"], Float[ndarray, "D D"]]:
        """Return mean and unbiased covariance of at least two."""
        return self._mean, self._scatter / (self.count - 1)


def inception_score(p: Float[ndarray, "N K"], parts: int = 1) -> float:
    """Return exp(E_x KL(p(y|x) || p(y))), the mean over equal parts; 1 (worst) to K.

    Args:
        p: probabilities of classes; each row sums to 1.
        parts: of the set, in order; 10 as published.
    """
    scores = []
    for part in np.array_split(p, parts):
        ratio = np.log(np.maximum(part, 1e-300) / np.maximum(part.mean(axis=0), 1e-300))
        scores.append(float(np.exp((part * ratio).sum(axis=1).mean())))
    return float(np.mean(scores))


def as_probabilities(rows: Float[ndarray, "N K"]) -> Float[ndarray, "N K"]:
    """Return rows as they are where each is a distribution, else their softmax."""
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        return rows
    powers: Float[ndarray, "N K"] = np.exp(rows - rows.max(axis=1, keepdims=True))
    probabilities: Float[ndarray, "N K"] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


class SetMeter:
    """Watches clips go by, 16 frames in memory, and tells the figures of all of them.

    Args:
        fid: features of frames; None: no FID.
        fvd: features of clips; None: no FVD.
        score: classes of clips; None: no inception score.
    """

    def __init__(
        self,
        *,
        fid: ScriptedNetwork | None = None,
        fvd: ScriptedNetwork | None = None,
        score: ScriptedNetwork | None = None,
    ) -> None:
        self._fid, self._fvd, self._score = fid, fvd, score
        self._frames, self._clips = (Moments(), Moments()), (Moments(), Moments())
        self._classes: list[Float[ndarray, "1 K"]] = []

    def watch(
        self, frames: Iterable[tuple[Picture, Picture | None]]
    ) -> Iterator[tuple[Picture, Picture | None]]:
        """Yield the frames of a clip as they are; its first 16 are its clip for FVD and IS.

        Raises:
            ModelError: a network fails.
        """
        if not (self._fid or self._fvd or self._score):
            yield from frames
            return
        kept: list[tuple[Picture, Picture | None]] = []
        is_first = True
        for pair in frames:
            kept.append(pair)
            yield pair
            if len(kept) == CLIP_FRAMES:
                self._look(kept, is_first=is_first)
                kept, is_first = [], False
        if kept:
            self._look(kept, is_first=False)

    def _look(self, kept: list[tuple[Picture, Picture | None]], *, is_first: bool) -> None:
        for side, pictures in enumerate(zip(*kept, strict=True)):
            if pictures[0] is None:
                return
            stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
            clip: Tensor = stacked.transpose(0, 1)[None]
            if self._fid:
                self._frames[side].add(self._fid(stacked))
            if self._fvd and is_first:
                self._clips[side].add(self._fvd(clip))
            if self._score and is_first and side == 0:
                self._classes.append(self._score(clip))

    def finish(self) -> tuple[dict[str, WholeFigure], list[str]]:
        """Return the figures by key, and what their reader should know."""
        found, notices = {}, []
        distances = (("fid", "FID", "frames", self._frames), ("fvd", "FVD", "clips", self._clips))
        for key, title, unit, sides in distances:
            made, real = sides
            if min(made.count, real.count) < 2:
                continue
            found[key] = WholeFigure(
                title=title,
                value=distance_of_moments(*real.finish(), *made.finish()),
                better="lower",
                samples=f"{made.count} {unit} against {real.count}",
            )
            if min(made.count, real.count) < made.dimensions:
                notices.append(
                    f"{title} is of {made.count} {unit} in {made.dimensions} dimensions, fewer "
                    "than a full covariance takes: it does not compare with published figures"
                )
        if self._classes:
            self._add_score(found, notices)
        return found, notices

    def _add_score(self, found: dict[str, WholeFigure], notices: list[str]) -> None:
        p = as_probabilities(np.concatenate(self._classes))
        parts = PARTS if len(p) >= PARTS * MIN_PER_PART else 1
        found["inception_score"] = WholeFigure(
            title="IS",
            value=inception_score(p, parts),
            better="higher",
            samples=f"{len(p)} clips in {parts} part{'s' * (parts > 1)}",
        )
        if parts == 1:
            notices.append(
                f"IS is of {len(p)} clips as one part: {PARTS} parts, as published, take "
                f"{PARTS * MIN_PER_PART} clips"
            )
