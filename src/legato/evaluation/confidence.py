"""How far a mean can be trusted: bootstrap intervals."""

from collections.abc import Sequence

import numpy as np

NUM_RESAMPLES = 2000
LEVEL = 0.95


def confidence_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """Return the 95% interval of the mean: percentiles over 2000 resamples, or None for one value.

    Efron & Tibshirani 1993, section 13.3. It speaks for other clips of the same kind; of the frames
    of one clip, which resemble each other, it is too narrow.

    Args:
        values: one per clip, or per frame.
        seed: of the resamples.
    """
    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    data = np.asarray(values, np.float64)
    means = [float(rng.choice(data, len(data)).mean()) for _ in range(NUM_RESAMPLES)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
