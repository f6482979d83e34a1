"""Guidance: from predictions that know less towards predictions that know more.

The chain is f(-, -), f(c, -), f(c, c_S): with the negative prompt, with the prompt, and with the
prompt and the given frames. Every link has a scale of its own:
f(-, -) + s_c (f(c, -) - f(-, -)) + s_S (f(c, c_S) - f(c, -)). The first difference is Ho and
Salimans 2022 (arXiv:2207.12598, eq. 6 with s = 1 + w), the second is context guidance (Blattmann et
al. 2023, arXiv:2304.08818, eq. 6).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Branch = Literal["negative_prompt", "prompt", "context"]
"""What the network sees: a text alone, or the prompt and the given frames."""


def links(
    *, guidance_scale: float, context_guidance: float | None
) -> Sequence[tuple[float, Branch]]:
    """Return the branches that are worth predicting, each with the scale of its link.

    A branch whose weight in the sum is 0 is left out, which leaves the sum as it is: with scales 1
    only the richest branch is predicted, with equal scales the middle one is not.

    Args:
        guidance_scale: s_c; 1 and less ignores the negative prompt (as diffusers does).
        context_guidance: s_S; 0 ignores the given frames; None: there are none.
    """
    chain: list[tuple[float, Branch]] = [
        (1.0, "negative_prompt"),
        (max(guidance_scale, 1.0), "prompt"),
    ]
    if context_guidance is not None:
        chain.append((context_guidance, "context"))
    following = [scale for scale, _ in chain[1:]] + [0.0]
    return [link for link, scale in zip(chain, following, strict=True) if link[0] != scale]


def guide(
    predictions: Sequence[Float[Tensor, "*shape"]], scales: Sequence[float]
) -> Float[Tensor, "*shape"]:
    """Return the guided prediction.

    Args:
        predictions: of the branches of a chain, in its order.
        scales: of their links, from `links`; the first one does not count.
    """
    guided = predictions[0]
    for scale, (before, prediction) in zip(scales[1:], pairwise(predictions), strict=True):
        guided = guided + scale * (prediction - before)
    return guided


def needs_unconditional(scale: float) -> bool:
    """Tell whether this scale asks for the second prediction (diffusers: only above 1)."""
    return scale > 1
