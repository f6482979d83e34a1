"""DISTS: how different structure and texture of two pictures are, by VGG-16.

Ding et al. 2020, arXiv:2004.07728. The weights are not part of Legato: the caller names a file.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from legato.errors import ModelError
from legato.evaluation.feature_networks import (
    VGG_TAPS,
    FeatureNetwork,
    read_weights,
    vgg_layers,
)

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STABLE = 1e-6  # c1 and c2
_WHAT, _FIX = "DISTS weights", "name the state of DISTS_pytorch's module, VGG-16 included"


class _L2Pool(nn.Module):
    """Root of the mean square under a Hann window of three pixels, every second one (section 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        window = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(window, window).expand(channels, 1, 3, 3)
        self.register_buffer("kernel", kernel.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.get_buffer("kernel")
        squares = F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1])
        return (squares + 1e-12).sqrt()


class DISTS(FeatureNetwork):
    """Distance of structure and texture, its weights frozen."""

    def __init__(self) -> None:
        super().__init__(vgg_layers(_L2Pool), VGG_TAPS, mean=_MEAN, std=_STD)
        channels = 3 + sum(VGG_TAPS.values())
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.requires_grad_(requires_grad=False).eval()

    @classmethod
    def from_file(cls, path: Path | str) -> "DISTS":
        """Load VGG-16's features and the weights alpha and beta of the 1475 channels.

        Args:
            path: a safetensors file, or the state of DISTS_pytorch's module in a torch file.

        Raises:
            ModelError: the file is missing, damaged or holds other tensors.
        """
        state = read_weights(path, _WHAT, _FIX)
        model = cls()
        try:
            model.load_state_dict({k: v for k, v in state.items() if k not in ("mean", "std")})
        except RuntimeError as error:
            why = str(error).splitlines()[-1].strip()
            raise ModelError(f"{_WHAT} {path}", why=why, fix=_FIX) from error
        return model

    @torch.no_grad()
    def forward(
        self, a: Float[Tensor, "N 3 H W"], b: Float[Tensor, "N 3 H W"]
    ) -> Float[Tensor, "N"]:
        """Return the distance of each pair, 0 to 1 (section 3).

        Args:
            a: RGB in [-1, 1], at least 32 rows and columns.
            b: likewise.
        """
        alike, first = a.new_zeros(len(a)), 0
        total = self.alpha.sum() + self.beta.sum()
        for x, y in zip(self._stages(a), self._stages(b), strict=True):
            own = slice(first, first + x.shape[1])
            texture, structure = _similarities(x, y)
            weighted = self.alpha[0, own, 0, 0] * texture + self.beta[0, own, 0, 0] * structure
            alike = alike + weighted.sum(dim=1) / total
            first = own.stop
        return 1 - alike

    def _stages(self, x: Tensor) -> list[Tensor]:
        picture = (x + 1) / 2
        return [picture, *self.look(picture)]


def _similarities(
    x: Float[Tensor, "N C H W"], y: Float[Tensor, "N C H W"]
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    """Return how alike the means are, and how alike what varies around them (section 3)."""
    mean_x, mean_y = x.mean(dim=(2, 3)), y.mean(dim=(2, 3))
    var_x, var_y = (z.var(dim=(2, 3), correction=0) for z in (x, y))
    covariance = (x * y).mean(dim=(2, 3)) - mean_x * mean_y
    texture = (2 * mean_x * mean_y + _STABLE) / (mean_x.square() + mean_y.square() + _STABLE)
    structure = (2 * covariance + _STABLE) / (var_x + var_y + _STABLE)
    return texture, structure
