"""LPIPS: how different two pictures look, by SqueezeNet, AlexNet or VGG-16.

Zhang et al. 2018, arXiv:1801.03924, version 0.1 with learned heads. The weights are not part of
Legato: they come from a file that the caller names, or from the `lpips` package where that imports.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import ModelError
from legato.evaluation.feature_networks import (
    ARCHITECTURES,
    Architecture,
    FeatureNetwork,
    read_weights,
)

PerceptualDistance = Callable[[Tensor, Tensor], Tensor]
SQUEEZE = ARCHITECTURES[0]
_MEAN = (-0.030, -0.088, -0.188)
_STD = (0.458, 0.448, 0.450)
_FIX = "name a file with the features of SqueezeNet 1.1, AlexNet or VGG-16 and LPIPS 0.1 heads"


class LPIPS(FeatureNetwork):
    """Learned perceptual distance; differentiable in both pictures, its own weights frozen."""

    def __init__(self, architecture: Architecture = SQUEEZE) -> None:
        super().__init__(architecture.build(), architecture.taps, mean=_MEAN, std=_STD)
        self.architecture = architecture
        for head, num_channels in enumerate(architecture.taps.values()):
            self.add_module(f"lin{head}", nn.Conv2d(num_channels, 1, 1, bias=False))
        self.requires_grad_(requires_grad=False).eval()

    @classmethod
    def from_file(cls, path: Path | str) -> "LPIPS":
        """Load weights; the network is recognised by them.

        Args:
            path: `features.N...` (torchvision's layout) and `linK.weight` in a safetensors file,
                or the state of the `lpips` package's module in a torch file.

        Raises:
            ModelError: the file is missing, damaged or holds other tensors.
        """
        what = "LPIPS weights"
        state = read_weights(path, what, _FIX)
        for architecture in ARCHITECTURES:
            with torch.device("meta"):
                wanted = cls(architecture).state_dict()
            if {k: v.shape for k, v in wanted.items()} == {k: v.shape for k, v in state.items()}:
                model = cls(architecture)
                model.load_state_dict(state)
                return model
        raise ModelError(f"{what} {path}", why="its tensors are those of no such network", fix=_FIX)

    def forward(
        self, a: Float[Tensor, "N 3 H W"], b: Float[Tensor, "N 3 H W"]
    ) -> Float[Tensor, "N"]:
        """Return the distance of each pair: 0 identical, about 1 unrelated (section 3, eq. 1).

        Args:
            a: RGB in [-1, 1], at least 32 rows and columns.
            b: likewise.
        """
        total = a.new_zeros(len(a))
        a, b = (x.contiguous(memory_format=torch.channels_last) for x in (a, b))  # twice as fast
        for head, (x, y) in enumerate(zip(self.look(a), self.look(b), strict=True)):
            difference = (_unit(x) - _unit(y)).square()
            total = total + self.get_submodule(f"lin{head}")(difference).mean(dim=(1, 2, 3))
        return total


def _unit(x: Tensor) -> Tensor:
    # 1e-10 as in the reference, but inside the root, whose slope at 0 would be infinite
    return x / (x.square().sum(dim=1, keepdim=True) + 1e-20).sqrt()


def load_lpips(
    weights: Path | None = None, device: torch.device | None = None
) -> PerceptualDistance:
    """Return a distance from a weights file, or from the `lpips` package with SqueezeNet.

    It takes two batches `N 3 H W` in [-1, 1] and returns `N` distances where they are.

    Args:
        weights: file for `LPIPS.from_file`; None asks the `lpips` package.
        device: where to compute; None: on the CPU.

    Raises:
        ModelError: no file is named and the package cannot be imported.
    """
    network = _from_package() if weights is None else LPIPS.from_file(weights)
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
