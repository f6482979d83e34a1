"""Where one shot ends and the next begins."""

import numpy as np
from jaxtyping import UInt8


class ShotDetector:
    """Finds cuts from small pictures of consecutive frames, whatever their rate."""

    def feed(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Look at the next frame; indices must follow one another."""
        raise NotImplementedError

    def cuts(self) -> list[int]:
        """Return the index of the first frame of each new shot; the first shot's is not listed."""
        raise NotImplementedError
