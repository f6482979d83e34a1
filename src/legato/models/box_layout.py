"""Boxes of vehicles as a condition of an image U-Net: where the first frame shows what.

Boxes are drawn into three maps at the size of the latents: the share of each cell that vehicles
cover which show their back; the same for other vehicles; and ones, which say that a layout is
given. A convolution adds them to the output of the U-Net's first: the same as more input channels,
but the U-Net stays what it is, and without a layout nothing is added.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

MAPS = 3


def box_maps(boxes: Float[Tensor, "K 5"], rows: int, columns: int) -> Float[Tensor, "3 h w"]:
    """Draw boxes into the three maps.

    Args:
        boxes: left, top, right, bottom in shares of the picture's width and height, and 1 where
            the vehicle shows its back, else 0.
        rows: of the latents.
        columns: likewise.
    """
    maps = torch.zeros(2, rows, columns)
    for left, top, right, bottom, shows_back in boxes.tolist():
        across = _covered(left * columns, right * columns, columns)
        down = _covered(top * rows, bottom * rows, rows)
        kind = 0 if shows_back else 1
        maps[kind] = maps[kind].maximum(down[:, None] * across)
    return torch.cat([maps, torch.ones(1, rows, columns)])


class BoxLayout(nn.Module):
    """Tells a U-Net of box maps; starts without effect.

    Args:
        width: channels of the U-Net's first convolution, `block_out_channels[0]`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(MAPS, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv.weight)

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "BoxLayout":
        """Build from the dictionary that `to_config` returned."""
        return cls(values["width"])

    def to_config(self) -> dict[str, Any]:
        """Return a JSON-ready description of the topology."""
        return {"_class_name": "BoxLayout", "width": self.conv.out_channels}

    @contextmanager
    def given(self, unet: nn.Module, maps: Float[Tensor, "B 3 h w"]) -> Iterator[None]:
        """Within the block, a `UNet2DConditionModel` sees these maps, one triple per sample.

        Maps of zeros leave a sample's layout open.
        """
        first = unet.get_submodule("conv_in")

        def add(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            told: Tensor = output + self.conv(maps.to(output.dtype))
            return told

        handle = first.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def _covered(low: float, high: float, count: int) -> Float[Tensor, " n"]:
    """Return the share of each of `count` unit cells between two bounds."""
    cells = torch.arange(count)
    covered: Tensor = ((cells + 1).clamp(max=high) - cells.clamp(min=low)).clamp(0, 1)
    return covered
