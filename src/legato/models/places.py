"""Where the pixels of a frame lie in another one, and how they are fetched from there."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


class Places(NamedTuple):
    """Four pixels of another frame for each pixel of a frame, and how much each counts."""

    pixels: Int[Tensor, "P 4"]
    weights: Float[Tensor, "P 4"]

    @classmethod
    def of(cls, motion: Float[Tensor, "N 3 h w"]) -> "Places":
        """Return the places between which a motion leads, for bilinear reading.

        Args:
            motion: x and y in pixels, and a trust that the weights are multiplied with. What lies
                more than a pixel outside the frame counts nothing. Frame n is read in frame n.
        """
        count, _, rows, cols = motion.shape
        x = motion[:, 0] + torch.arange(cols, device=motion.device)
        y = motion[:, 1] + torch.arange(rows, device=motion.device)[:, None]
        x_inside, y_inside = x.clamp(0, cols - 1), y.clamp(0, rows - 1)
        is_near = ((x - x_inside).abs() < 1) & ((y - y_inside).abs() < 1)
        trust = motion[:, 2] * is_near
        left, top = x_inside.int(), y_inside.int()
        right, below = (left + 1).clamp(max=cols - 1), (top + 1).clamp(max=rows - 1)
        x_share, y_share = x_inside - left, y_inside - top
        upper, lower = trust * (1 - y_share), trust * y_share
        first = torch.arange(count, device=motion.device, dtype=torch.int32) * (rows * cols)
        top, below = (y * cols + first[:, None, None] for y in (top, below))
        pixels = (top + left, top + right, below + left, below + right)
        weights = (
            upper * (1 - x_share),
            upper * x_share,
            lower * (1 - x_share),
            lower * x_share,
        )
        return cls(*(torch.stack(four, dim=-1).flatten(0, 2) for four in (pixels, weights)))

    def fetch(self, rows: Float[Tensor, "P C"]) -> Float[Tensor, "P C"]:
        """Return what lies there of the other frame, whose pixels are rows."""
        weights = self.weights.to(rows.dtype)
        found: Tensor = F.embedding_bag(self.pixels, rows, mode="sum", per_sample_weights=weights)
        return found
