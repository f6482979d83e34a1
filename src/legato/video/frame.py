"""One decoded picture with its exact time."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8, UInt16

Pixels = UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]
Alpha = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture as stored in its file: rotation and aspect are facts of the file, not applied."""

    pixels: Pixels
    """RGB as coded (no tone or gamma change); uint8, or uint16 using the full 16-bit range."""

    alpha: Alpha | None = None
    """Opacity of each pixel in the same dtype, 0 transparent; None where the file has none."""

    pts: int
    """Presentation time in ticks of `time_base`; strictly increasing within a file."""

    time_base: Fraction
    """Seconds per tick."""

    repeated: bool = False
    """True: stands in for a frame that could not be decoded."""

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds."""
        return self.pts * self.time_base
