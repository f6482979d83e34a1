"""Networks in TorchScript files that the user names: what published scores are computed through.

Such a file runs code of whoever made it: name only files that you trust.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from legato.errors import ModelError, first_sentence

_WANTED = ("rescale", "resize")
_FEATURES = "return_features"


class ScriptedNetwork:
    """Gives a vector for each picture or clip.

    It is called with float32 RGB from 0 to 255, at the clips' own size. Where its `forward` has
    arguments of the names `rescale`, `resize` or `return_features`, as those of StyleGAN's
    inception-2015-12-05.pt and StyleGAN-V's i3d_torchscript.pt do, these are true: range and size
    are then the network's own business.

    Args:
        path: of the TorchScript file.
        option: that named it, for errors.
        device: where to compute.
        features: ask for features, not for classes, where the network can tell both.

    Raises:
        ModelError: the file is missing, damaged, or no TorchScript.
    """

    def __init__(
        self, path: Path, option: str, device: torch.device, *, features: bool = True
    ) -> None:
        self._path, self._option, self._device = path, option, device
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that TorchScript is old
                load: Any = torch.jit.load  # without types
                self._module: Any = load(str(path), map_location=device).eval()
            names = {argument.name for argument in self._module.forward.schema.arguments}
        except (OSError, RuntimeError, ValueError, AttributeError) as error:
            raise self._failed(error) from error
        wanted = (*_WANTED, _FEATURES) if features else _WANTED
        self._flags = {name: True for name in wanted if name in names}

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "N 3 *size"]) -> Float[ndarray, "N D"]:
        """Return its vectors, float64.

        Args:
            x: pictures `N 3 H W` or clips `N 3 T H W`, RGB from 0 to 255.

        Raises:
            ModelError: the network fails, or gives something else than finite vectors.
        """
        try:
            found = self._module(x.to(self._device, torch.float32), **self._flags)
        except (RuntimeError, TypeError) as error:
            raise self._failed(error) from error
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(x):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise self._failed(ValueError(f"it gives {shape} for {list(x.shape)}, not N x D"))
        vectors = found.flatten(1).double().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise self._failed(ValueError("it gives values that are not finite"))
        return np.asarray(vectors)

    def _failed(self, error: Exception) -> ModelError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if isinstance(error, torch.jit.Error) and lines else ""
        return ModelError(
            f"{self._option} {self._path}",
            why=reason or first_sentence(error),
            fix="name a TorchScript file as docs/datasets.md describes it, or leave it out",
        )
