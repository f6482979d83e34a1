"""What a ControlNet is shown of the input: outlines, depth, or frames that the user gives."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from legato.errors import InputError
from legato.models.depth import DepthEstimator
from legato.pipelines.keyframe_reader import KeyframeReader
from legato.pipelines.pictures import to_model, to_size
from legato.video.frame import Frame
from legato.video.probe import VideoFacts, probe
from legato.video.read import read_frames

CANNY = 50, 100
"""Thresholds of an outline, in 8-bit units, as FRESCO's."""
MOST_STRETCHED = 1.1
"""Given frames may be so much wider or higher in proportion: annotators round sizes."""

Hints = Callable[[Float[Tensor, "T 3 H W"], Sequence[int]], Float[Tensor, "T 3 H W"]]
"""Frames in [-1, 1] and their indices in the range to maps from 0 to 1 of the same size."""


def outlines(
    frames: Float[Tensor, "T 3 H W"], indices: Sequence[int] = ()
) -> Float[Tensor, "T 3 H W"]:
    """Return Canny's outlines of frames in [-1, 1]: 1 on them, else 0, in three channels."""
    levels = ((frames.cpu().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pictures = levels.permute(0, 2, 3, 1).numpy()
    maps = np.stack([cv2.Canny(np.ascontiguousarray(each), *CANNY) for each in pictures])
    return repeat(torch.from_numpy(maps > 0).float(), "T H W -> T c H W", c=3)


@dataclass(frozen=True)
class DepthHints:
    """Nearness as a depth model sees it, in three channels."""

    estimate: DepthEstimator

    def __call__(
        self, frames: Float[Tensor, "T 3 H W"], indices: Sequence[int]
    ) -> Float[Tensor, "T 3 H W"]:
        """Return maps; each depends on its frame only."""
        return repeat(self.estimate(frames), "T H W -> T c H W", c=3)


class GivenHints:
    """Frames that the user made, one for each frame of the range.

    Args:
        path: a video, a folder of images or an image.

    Raises:
        InputError: there is none, or it cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.facts: VideoFacts = probe(path)
        self._pts = [frame.pts for frame in read_frames(path, facts=self.facts)]
        self._reader = KeyframeReader(self._open_at, self._pts)

    def require_fitting(self, source: VideoFacts, num_frames: int) -> None:
        """Refuse hints that are not those of the source.

        Raises:
            InputError: their number or their shape is another one.
        """
        ours, theirs = (facts.width / facts.height for facts in (source, self.facts))
        if len(self._pts) != num_frames:
            raise InputError(
                f"hint {self.facts.path} has {len(self._pts)} frames",
                why=f"{num_frames} are translated, and each needs its own",
                fix="give a hint for every frame of the range",
            )
        if not 1 / MOST_STRETCHED <= theirs / ours <= MOST_STRETCHED:
            raise InputError(
                f"hint {self.facts.path} is {self.facts.width}x{self.facts.height}",
                why=f"the input is {source.width}x{source.height}: its pictures have another shape",
                fix="give hints that were made from the input",
            )

    def __call__(
        self, frames: Float[Tensor, "T 3 H W"], indices: Sequence[int]
    ) -> Float[Tensor, "T 3 H W"]:
        """Return the given frames at the size of the input's.

        Raises:
            DecodeError: the file has changed.
        """
        wanted = sorted(set(indices))
        found = dict(zip(wanted, self._reader.take(wanted), strict=True))
        rows, cols = frames.shape[2:]
        shown = [to_size(to_model([found[index]]), (cols, rows)) for index in indices]
        return ((torch.cat(shown) + 1) / 2).clamp(0, 1)

    def _open_at(self, first: int) -> Iterator[Frame]:
        start = self._pts[first] if first else None
        return iter(read_frames(self.facts.path, facts=self.facts, start_pts=start))


def open_hints(hint: Path | None, hint_model: str | None, device: torch.device) -> Hints:
    """Return what makes the hints: the given ones, those of a depth model, or outlines.

    Raises:
        InputError: the given ones cannot be read.
        ModelError: the depth model is missing, damaged or of another kind.
    """
    if hint is not None:
        return GivenHints(hint.expanduser())
    if hint_model is not None:
        return DepthHints(DepthEstimator(hint_model, device))
    return outlines
