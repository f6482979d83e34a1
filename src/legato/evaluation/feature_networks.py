"""Networks made to name pictures, whose features compare them; layers numbered as in torchvision.

SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360), AlexNet (Krizhevsky 2014, arXiv:1404.5997)
and VGG-16 (Simonyan and Zisserman 2014, arXiv:1409.1556), as far as their features go.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from legato.errors import ModelError
from legato.models.convert.pickles import read_pickle

_FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)} | {
    9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)
}  # fmt: skip
_VGG_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_PACKAGES = re.compile(r"^(?:net\.slice|stage)\d+\.(\d+\..*)$")
_PACKAGES_HEAD = re.compile(r"^(lin\d+)\.model\.1\.weight$")


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


def _squeeze() -> nn.ModuleList:
    def layer(index: int) -> nn.Module:
        if index in _FIRES:
            return _Fire(*_FIRES[index])
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)

    first = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()]
    return nn.ModuleList([*first, *(layer(index) for index in range(2, 13))])


def _alex() -> nn.ModuleList:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, stride=2)

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), pool()]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), pool()]
    for inputs, outputs in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return nn.ModuleList(layers)


def vgg_layers(
    pool: Callable[[int], nn.Module] = lambda channels: nn.MaxPool2d(2),
) -> nn.ModuleList:
    """Return VGG-16's features up to relu5_3.

    Args:
        pool: makes the layer between two stages, of so many channels.
    """
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, count in _VGG_STAGES:
        if layers:
            layers.append(pool(inputs))
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
    return nn.ModuleList(layers)


VGG_TAPS = {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}
"""Last layer of each stage, and its channels."""


class Architecture(NamedTuple):
    """Layers of a network, and where LPIPS listens."""

    title: str
    build: Callable[[], nn.ModuleList]
    taps: dict[int, int]
    """Channels by number of the layer."""


ARCHITECTURES = (
    Architecture(
        "SqueezeNet", _squeeze, {1: 64, 4: 128, 7: 256, 9: 384, 10: 384, 11: 512, 12: 512}
    ),
    Architecture("AlexNet", _alex, {1: 64, 4: 192, 7: 384, 9: 256, 11: 256}),
    Architecture("VGG-16", vgg_layers, VGG_TAPS),
)


class FeatureNetwork(nn.Module):
    """Frozen layers, and what pictures look like inside them.

    Args:
        features: the layers; their weights are named `features.N...`.
        taps: numbers of the layers that are listened to.
        mean: of RGB, taken off first.
        std: of RGB, divided by then.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        features: nn.ModuleList,
        taps: Collection[int],
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.features, self._taps = features, taps
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def look(self, x: Float[Tensor, "N 3 H W"]) -> list[Float[Tensor, "N _ _ _"]]:
        """Return what the tapped layers give."""
        x = (x - self.mean) / self.std
        seen = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taps:
                seen.append(x)
        return seen


def read_weights(path: Path | str, what: str, fix: str) -> dict[str, Tensor]:
    """Return the weights in a safetensors or torch file, by names as in torchvision.

    The names that the packages lpips and DISTS_pytorch give are understood too.

    Args:
        path: of the file.
        what: they are, for errors.
        fix: for errors.

    Raises:
        ModelError: the file is missing, damaged, or holds code.
    """
    path = Path(path)
    try:
        found = load_file(path) if path.suffix == ".safetensors" else read_pickle(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{what} {path}", why=str(error).splitlines()[0], fix=fix) from error
    return dict(_renamed(found))


def _renamed(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, value in state.items():
        if name.startswith(("lins.", "scaling_layer.")) or name.endswith(".filter"):
            continue  # copies, and what the networks here have of their own
        if match := _PACKAGES.match(name):
            yield f"features.{match[1]}", value
        elif match := _PACKAGES_HEAD.match(name):
            yield f"{match[1]}.weight", value
        else:
            yield name, value
