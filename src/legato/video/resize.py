"""Antialiased resampling by any factor."""

from jaxtyping import Float
from torch import Tensor


def resize(frames: Float[Tensor, "T C H W"], size: tuple[int, int]) -> Float[Tensor, "T C H2 W2"]:
    """Resample to `size` (rows, columns) with an antialiased bicubic kernel."""
    raise NotImplementedError
