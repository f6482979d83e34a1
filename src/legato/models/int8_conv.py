"""Convolutions of 8-bit integers, for CPUs whose vectors multiply those (VNNI, AVX2).

oneDNN multiplies them up to four times as fast as float32. Weights have a scale per output channel,
every frame has its own, from its least and its largest value: so a frame never depends on those it
is computed with. Sums and what lies between convolutions stay in float32 (docs/decisions/0066).
"""

import math

import cv2
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from legato.models.hooks import replace_forward

MIN_CHANNELS = 32
"""Going in: below, a convolution takes little time, and its input is the clip or the latents."""


class Int8Conv:
    """Stands in for the forward of a `Conv2d`, without gradients, float32 in and out.

    Args:
        conv: an ungrouped convolution in float32, whose weights no longer change.
        largest_weight: what each output channel's largest becomes, `device.largest_int8_weight()`.
    """

    def __init__(self, conv: nn.Conv2d, largest_weight: int) -> None:
        largest = conv.weight.detach().abs().amax(dim=(1, 2, 3))
        self._conv, self._scale = conv, largest.div(largest_weight).clamp_min(torch.finfo().tiny)
        self._geometry = [list(pair) for pair in (conv.stride, conv.padding, conv.dilation)]
        self._zero = torch.zeros(conv.out_channels, dtype=torch.int64)
        whole = conv.weight.detach().div(self._scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        self._weight = torch.ops.onednn.qconv_prepack(
            whole, self._scale, 1.0, 0, *self._geometry, 1
        )

    def __call__(self, input: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D H W"]:
        """Convolve each frame by itself; what is not finite stays so."""
        frames = [self._one(frame) for frame in torch.split(input, 1)]
        return frames[0] if len(frames) == 1 else torch.cat(frames)

    def _one(self, frame: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 D H W"]:
        pixels = frame.permute(0, 2, 3, 1).contiguous()
        low, high = (float(value) for value in torch.aminmax(pixels))
        step = (max(high, 0.0) - min(low, 0.0)) / 255 or 1.0
        if not math.isfinite(step):
            return nn.Conv2d.forward(self._conv, frame)
        zero = round(-min(low, 0.0) / step)
        found: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *(quantised(pixels, step, zero).permute(0, 3, 1, 2), step, zero),
            *(self._weight, self._scale, self._zero, self._conv.bias),
            *(*self._geometry, 1),
            *(1.0, 0, torch.float32),  # how the output is scaled and stored: not at all
            *("none", [], ""),
        )
        return found


def quantised(pixels: Float[Tensor, "1 h w C"], step: float, zero: int) -> UInt8[Tensor, "1 h w C"]:
    """Return round(x / step) + zero, limited to 0..255; by OpenCV, which reads and writes once."""
    whole = torch.empty(pixels.shape, dtype=torch.uint8)
    rows = (-1, pixels.shape[-1])
    source, target = pixels.numpy().reshape(rows), whole.numpy().reshape(rows)
    cv2.convertScaleAbs(source, dst=target, alpha=1 / step, beta=zero)
    return whole


def use_int8_convs_(network: nn.Module, largest_weight: int) -> None:
    """Let the 3x3 convolutions of a frozen network compute in 8 bits; parameters stay."""
    for module in network.modules():
        if type(module) is not nn.Conv2d or module.in_channels < MIN_CHANNELS:
            continue
        if module.kernel_size == (3, 3):
            replace_forward(module, Int8Conv(module, largest_weight))
