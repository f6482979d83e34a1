"""How far an approximate decoder's frames are from exact ones."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from legato.errors import counted

LEVELS = 255
"""Steps of 8 bits between black and white, -1 and 1."""


@dataclass(slots=True)
class Approximation:
    """Says the distance of the first frames that were decoded both ways."""

    sentence: str = ""
    """Empty until `measure` is called."""

    def measure(
        self, frames: Float[Tensor, "1 T 3 H W"], exact: Float[Tensor, "1 T 3 H W"]
    ) -> None:
        """Compare frames in about [-1, 1] with exact ones."""
        apart = (frames.clamp(-1, 1) - exact.clamp(-1, 1)).float().mul_(LEVELS / 2)
        mean_square, largest = float(apart.square().mean()), float(apart.abs().max())
        psnr = 10 * math.log10(LEVELS**2 / mean_square) if mean_square else math.inf
        self.sentence = (
            f"approximate decoder: {psnr:.1f} dB from the exact one, at most {largest:.1f} of "
            f"{LEVELS} levels ({counted(frames.shape[1], 'frame')} decoded both ways)"
        )
