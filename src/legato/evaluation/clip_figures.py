"""Figures of clips that CLIP judges: how steady the content is, and whether it is the prompt's.

CLIPSIM: mean cosine of frames and the prompt (Wu et al. 2021, GODIVA, arXiv:2104.14806), not times
100. Tem-Con: mean cosine of neighbouring frames' embeddings (Esser et al. 2023, Gen-1,
arXiv:2302.03011, section 4.3). Fram-Acc: share of frames that are nearer to the target's prompt
than to the source's (Qi et al. 2023, FateZero, arXiv:2303.09535, section 4.2). Spat-Con (CLIP):
mean |S - S'| over all pairs of places, S the cosines between tokens of the last vision layer, of a
frame and of its reference, 0 to 2: whether what is alike in the source still is (Yang et al. 2024,
FRESCO, arXiv:2403.12962, the loss L_spat).
Differs: FRESCO's Spat-Con takes features of VGG, of a layer that it does not state; its numbers and
these do not compare. Both see what CLIP's preprocessing leaves of a frame, by rule its middle.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from legato.evaluation.clips import Picture
from legato.models.clip_similarity import ClipSimilarity


@dataclass(kw_only=True)
class ContentFigures:
    """Collects them frame by frame."""

    similarity: ClipSimilarity | None
    """None: there will be none."""
    prompts: tuple[str, str] | None = None
    """Of the source ("": no Fram-Acc) and of the target; None: no CLIPSIM either."""
    series: dict[str, list[float]] = field(default_factory=dict)
    _last: Float[Tensor, " D"] | None = None
    _words: list[Float[Tensor, " D"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.similarity is not None:
            self._words = [self.similarity.words(prompt) for prompt in self.prompts or () if prompt]

    def add(self, picture: Picture, truth: Picture | None = None) -> None:
        """Take in the next frame, with its reference where there is one."""
        if self.similarity is None:
            return
        embedded = self.similarity.picture(picture)
        if self._last is not None:
            self.series.setdefault("tem_con", []).append(float(embedded @ self._last))
        nearness = [float(embedded @ words) for words in self._words]
        if nearness:
            self.series.setdefault("clipsim", []).append(nearness[-1])
        if len(nearness) == 2:
            self.series.setdefault("fram_acc", []).append(float(nearness[1] > nearness[0]))
        self._last = embedded
        if truth is None:
            return
        places = [self.similarity.self_similarity(each) for each in (picture, truth)]
        if places[0] is not None and places[1] is not None:
            distance = (places[0] - places[1]).abs().mean()
            self.series.setdefault("spat_con", []).append(float(distance))
