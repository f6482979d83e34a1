"""LPIPS on SqueezeNet 1.1: how different two pictures look.

Zhang et al. 2018, arXiv:1801.03924, version 0.1 with learned heads. The weights are not part of
Legato: they come from a file that the caller names, or from the `lpips` package where that imports.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from legato.errors import ModelError

PerceptualDistance = Callable[[Tensor, Tensor], Tensor]
_FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)} | {
    9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)
}  # fmt: skip
_POOLS = (2, 5, 8)
_TAPS = {1: 64, 4: 128, 7: 256, 9: 384, 10: 384, 11: 512, 12: 512}
_MEAN = (-0.030, -0.088, -0.188)
_STD = (0.458, 0.448, 0.450)


class _Fire(nn.Module):
    """Squeeze to few channels, then expand by a 1x1 and a 3x3 convolution side by side."""

    def __init__(self, num_inputs: int, num_squeezed: int, num_expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(num_inputs, num_squeezed, 1)
        self.expand1x1 = nn.Conv2d(num_squeezed, num_expanded, 1)
        self.expand3x3 = nn.Conv2d(num_squeezed, num_expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1).relu()


def _layer(index: int) -> nn.Module:
    if index in _POOLS:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return _Fire(*_FIRES[index])


class SqueezeLPIPS(nn.Module):
    """Learned perceptual distance; differentiable in both pictures, its own weights frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()]
        self.features = nn.ModuleList([*first, *(_layer(index) for index in range(2, 13))])
        for head, num_channels in enumerate(_TAPS.values()):
            self.add_module(f"lin{head}", nn.Conv2d(num_channels, 1, 1, bias=False))
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        self.requires_grad_(requires_grad=False).eval()

    @classmethod
    def from_file(cls, path: Path | str) -> "SqueezeLPIPS":
        """Load `features.N...` (torchvision's layout) and `linK.weight` from a safetensors file.

        Raises:
            ModelError: the file is missing, damaged or holds other tensors.
        """
        model = cls()
        try:
            model.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ModelError(
                f"LPIPS weights {path}",
                why=str(error).splitlines()[0],
                fix="name a safetensors file with SqueezeNet 1.1 features and LPIPS 0.1 heads",
            ) from error
        return model

    def forward(
        self, a: Float[Tensor, "N 3 H W"], b: Float[Tensor, "N 3 H W"]
    ) -> Float[Tensor, "N"]:
        """Return the distance of each pair: 0 identical, about 1 unrelated (section 3, eq. 1).

        Args:
            a: RGB in [-1, 1], at least 32 rows and columns.
            b: likewise.
        """
        total = a.new_zeros(len(a))
        for head, (x, y) in enumerate(zip(self._taps(a), self._taps(b), strict=True)):
            difference = (_unit(x) - _unit(y)).square()
            total = total + self.get_submodule(f"lin{head}")(difference).mean(dim=(1, 2, 3))
        return total

    def _taps(self, x: Tensor) -> list[Tensor]:
        x = (x - self.mean) / self.std
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS:
                taps.append(x)
        return taps


def _unit(x: Tensor) -> Tensor:
    # 1e-10 as in the reference, but inside the root, whose slope at 0 would be infinite
    return x / (x.square().sum(dim=1, keepdim=True) + 1e-20).sqrt()


def load_lpips(
    weights: Path | None = None, device: torch.device | None = None
) -> PerceptualDistance:
    """Return a distance from a weights file, or from the `lpips` package.

    It takes two batches `N 3 H W` in [-1, 1] and returns `N` distances where they are.

    Args:
        weights: safetensors file for `SqueezeLPIPS.from_file`; None asks the `lpips` package.
        device: where to compute; None: on the CPU.

    Raises:
        ModelError: no file is named and the package cannot be imported.
    """
    network = _from_package() if weights is None else SqueezeLPIPS.from_file(weights)
    place = device or torch.device("cpu")
    network.to(place)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        scores: Tensor = network(a.to(place), b.to(place))
        return scores.flatten().to(a.device)

    return distance


def _from_package() -> nn.Module:
    try:
        import lpips
    except ImportError as error:
        raise ModelError(
            "LPIPS weights",
            why="no file was named and the package lpips is not installed",
            fix="name a weights file, or pip install 'legato[metrics]'",
        ) from error
    package: nn.Module = lpips.LPIPS(net="squeeze", verbose=False)
    return package.eval().requires_grad_(requires_grad=False)
