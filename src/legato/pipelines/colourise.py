"""Take only the colours of translated frames, and all else from the input.

Yang et al. 2024 (FRESCO), arXiv:2403.12962, section 4.5: a translation whose prompt names colours.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from legato.pipelines.lab import from_lab, to_lab

_TOLERANCE = 1.0  # levels of 255
_HALVINGS = 8


def colourise(
    translated: Float[Tensor, "T 3 H W"], frames: Float[Tensor, "T 3 H W"]
) -> Float[Tensor, "T 3 H W"]:
    """Return frames with the lightness of the input and the a and b of the translation.

    Where a screen cannot show that colour at that lightness, it is paled until it can: lightness is
    never given up.

    Args:
        translated: RGB in [-1, 1].
        frames: input, likewise.
    """
    out = [
        _recoloured(_array(look), _array(frame))
        for look, frame in zip(translated, frames, strict=True)
    ]
    stacked = torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2)
    return (stacked * 2 - 1).to(translated.device, translated.dtype)


def _recoloured(
    look: Float[ndarray, "H W 3"], frame: Float[ndarray, "H W 3"]
) -> Float[ndarray, "H W 3"]:
    lab = np.concatenate((to_lab(frame)[..., :1], to_lab(look)[..., 1:]), axis=-1)
    unfit = ~_fits(lab)
    if unfit.any():
        wanted = lab[unfit][None]
        low, high = (np.full((*wanted.shape[:2], 1), share, np.float32) for share in (0, 1))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fits = _fits(_paled(wanted, middle))[..., None]
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        lab[unfit] = _paled(wanted, low)[0]
    return from_lab(lab)


def _paled(lab: Float[ndarray, "H W 3"], share: Float[ndarray, "H W 1"]) -> Float[ndarray, "H W 3"]:
    return np.concatenate((lab[..., :1], lab[..., 1:] * share), axis=-1)


def _fits(lab: Float[ndarray, "H W 3"]) -> ndarray:
    """Tell where a screen shows a colour at its lightness."""
    return np.asarray(np.abs(to_lab(from_lab(lab))[..., 0] - lab[..., 0]) < _TOLERANCE)


def _array(frame: Float[Tensor, "3 H W"]) -> Float[ndarray, "H W 3"]:
    unit = ((frame.detach().cpu().float() + 1) / 2).clamp(0, 1)
    return np.ascontiguousarray(unit.permute(1, 2, 0).numpy())
