"""Which frames of a clip are given, and what the network is told of them.

c_S = (m z, m): the latents of the given frames, zeros elsewhere, and the mask m, 1 where given
(Blattmann et al. 2023, arXiv:2304.08818, section 3.2).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from legato.errors import InputError

BETWEEN = 4
"""An interpolation keeps every fourth frame: three are new between two given ones."""


@dataclass(frozen=True, kw_only=True)
class ContextOptions:
    """How many first frames are given in training."""

    none: float = 0.2
    """Share of clips with no frame given; it also is what context guidance leads away from."""
    one: float = 0.4
    """Share of clips whose first frame is given."""
    two: float = 0.4
    """Share of clips whose first two frames are given."""

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise InputError(
                f"shares of given frames {self.shares}",
                why="each is a probability and together they are 1",
                fix="use shares such as 0.2, 0.4 and 0.4",
            )

    @property
    def shares(self) -> tuple[float, float, float]:
        """By the number of given frames."""
        return self.none, self.one, self.two


def sample_counts(
    clips: int, options: ContextOptions, generator: torch.Generator
) -> Int[Tensor, "B"]:
    """Draw how many first frames each clip is given."""
    shares = torch.tensor(options.shares)
    return torch.multinomial(shares, clips, replacement=True, generator=generator)


def first_frames(counts: Int[Tensor, "B"], num_frames: int) -> Bool[Tensor, "B T"]:
    """Return which frames are given where the first so many are."""
    return torch.arange(num_frames, device=counts.device)[None] < counts[:, None]


def every_fourth(num_frames: int) -> Bool[Tensor, "T"]:
    """Return which frames are given to an interpolation of a clip of 4 n + 1 frames."""
    return torch.arange(num_frames) % BETWEEN == 0


def linear_blend(latents: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
    """Return clips that fade evenly from their first frame to their last one, both untouched."""
    share = torch.linspace(0, 1, latents.shape[1]).to(latents)[:, None, None, None]
    return torch.lerp(latents[:, :1], latents[:, -1:], share)


def context_condition(
    latents: Float[Tensor, "B T C h w"], is_given: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T C+1 h w"]:
    """Return c_S.

    Args:
        latents: of the given frames; what stands elsewhere does not count.
        is_given: which frames they are.
    """
    mask = is_given[:, :, None, None, None].to(latents)
    shown = torch.where(mask > 0, latents, torch.zeros_like(latents))
    return torch.cat((shown, mask.expand_as(latents[:, :, :1])), dim=2)
