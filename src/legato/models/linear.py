"""Linear layers in float32 by oneDNN, where torch would ask MKL.

MKL takes AVX2 on processors that Intel did not make, and oneDNN the AVX-512 that they have: twice
the rate (docs/decisions/0052). Reduced precisions go to oneDNN anyway.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

HAS_AVX512: bool = (
    torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
"""Whether torch computes with AVX-512 here, and lends oneDNN's linear layer."""


def linear(
    x: Float[Tensor, "*rows C"], weight: Float[Tensor, "D C"], bias: Float[Tensor, " D"] | None
) -> Float[Tensor, "*rows D"]:
    """Return x W' + b, as `torch.nn.functional.linear` does up to rounding."""
    plain = x.dtype != torch.float32 or x.device.type != "cpu" or x.numel() == 0
    taped = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if plain or taped or not HAS_AVX512:  # oneDNN's has no gradient
        return F.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def use_fast_linear_(network: nn.Module) -> None:
    """Let every linear layer of a network compute by `linear`; types and parameters stay."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, layer.weight, layer.bias)
