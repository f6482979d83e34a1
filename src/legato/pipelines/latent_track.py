"""Latents of a long video on the disk: written part by part, read by frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from legato.pipelines.carried import Carried
from legato.pipelines.workfolder import WorkFolder


@dataclass(frozen=True, kw_only=True)
class LatentTrack:
    """Consecutive frames of latents, float32, bit for bit, in files of known bounds."""

    folder: WorkFolder
    name: str
    bounds: Sequence[int]
    """First frame of each part, rising, and the frame after the last one."""

    def has(self, part: int) -> bool:
        """Return whether a part was written."""
        return self.folder.latents(self.name, part).exists()

    def write(self, part: int, latents: Float[Tensor, "T C h w"]) -> None:
        """Write a part, whole or not at all."""
        assert len(latents) == self.bounds[part + 1] - self.bounds[part]
        tensors = {"latents": latents.detach().float().cpu()}
        carried = Carried(position=self.bounds[part], tensors=tensors)
        carried.save(self.folder.latents(self.name, part))

    def read(self, start: int, stop: int) -> Float[Tensor, "T C h w"]:
        """Return frames start..stop-1; only the parts that they lie in are read.

        Raises:
            InputError: a file is missing or damaged.
        """
        pieces = []
        for part, (first, after) in enumerate(pairwise(self.bounds)):
            if first < stop and after > start:
                kept = Carried.load(self.folder.latents(self.name, part)).tensors["latents"]
                pieces.append(kept[max(start - first, 0) : stop - first])
        return torch.cat(pieces)
