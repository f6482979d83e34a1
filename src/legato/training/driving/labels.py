"""What a driving scene can be called: four closed groups of words."""

from dataclasses import astuple, dataclass
from typing import Literal, get_args

import numpy as np

Daytime = Literal["day", "dusk", "night"]
Weather = Literal["clear", "rain", "fog", "snow"]
Crowd = Literal["empty", "sparse", "crowded"]
Place = Literal["city", "country", "forest", "highway"]

GROUPS: tuple[tuple[str, ...], ...] = tuple(map(get_args, (Daytime, Weather, Crowd, Place)))
VOCABULARY: list[str] = [word for group in GROUPS for word in group]
"""All words in the order of the weights."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """One word of each group."""

    daytime: Daytime
    weather: Weather
    crowd: Crowd
    place: Place

    @property
    def words(self) -> list[str]:
        """The words, one of each group."""
        return [str(word) for word in astuple(self)]


def draw_labels(rng: np.random.Generator) -> Labels:
    """Return random labels; clear days are more common than the rest."""
    return Labels(
        daytime=rng.choice(GROUPS[0], p=(0.5, 0.2, 0.3)),
        weather=rng.choice(GROUPS[1], p=(0.46, 0.2, 0.16, 0.18)),
        crowd=rng.choice(GROUPS[2], p=(0.25, 0.4, 0.35)),
        place=rng.choice(GROUPS[3], p=(0.35, 0.25, 0.2, 0.2)),
    )
