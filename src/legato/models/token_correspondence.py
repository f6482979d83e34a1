"""Which tokens of a clip's frames are new, and which show the same point, as tensors of indices."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenCorrespondence:
    """How the `N` tokens of each of `T` frames belong together, at one resolution.

    Yang et al. 2024, arXiv:2403.12962, section 4.2. Row by row: token = y width + x.
    """

    unique: Bool[Tensor, "T N"]
    """Tokens that supply keys and values: all of the first frame, and what is not visible in the
    frame before of the others."""

    forward: Int[Tensor, "T 1 N"]
    """Token of each frame on the trajectory that is named by its token in frame 0; permutations."""

    inverse: Int[Tensor, "T 1 N"]
    """The inverse of each permutation."""

    link: Bool[Tensor, "N 1 T T"]
    """Per trajectory, which frames may attend to which."""

    supply: Int[Tensor, " M"] = field(init=False, repr=False, compare=False)
    """The unique tokens, counted through all frames."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "supply", self.unique.flatten().nonzero()[:, 0])

    def to(self, device: torch.device) -> "TokenCorrespondence":
        """Return it on a device."""
        return TokenCorrespondence(
            unique=self.unique.to(device),
            forward=self.forward.to(device),
            inverse=self.inverse.to(device),
            link=self.link.to(device),
        )


ByTokens = Mapping[int, TokenCorrespondence]
"""Correspondences by number of tokens of a frame."""
