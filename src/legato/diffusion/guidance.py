"""Classifier-free guidance: away from the negative prompt, towards the prompt."""

from jaxtyping import Float
from torch import Tensor


def guide(
    conditional: Float[Tensor, "*shape"],
    unconditional: Float[Tensor, "*shape"] | None = None,
    *,
    scale: float,
) -> Float[Tensor, "*shape"]:
    """Return unconditional + scale (conditional - unconditional).

    Ho and Salimans 2022, arXiv:2207.12598, eq. 6 with scale = 1 + w.

    Args:
        conditional: prediction with the prompt.
        unconditional: prediction with the negative prompt; None: `conditional` is returned.
        scale: 1 ignores the negative prompt.
    """
    if unconditional is None:
        return conditional
    return unconditional + scale * (conditional - unconditional)


def needs_unconditional(scale: float) -> bool:
    """Tell whether this scale asks for the second prediction (diffusers: only above 1)."""
    return scale > 1
