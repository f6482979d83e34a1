"""Low-rank weights beside frozen temporal layers: what few clips teach of motion, in a small file.

W + B A with B zero at first (Hu et al. 2021, arXiv:2106.09685, section 4.1), on the attentions over
time, as AnimateDiff's MotionLoRA (Guo et al. 2023, arXiv:2307.04725, section 4.3). `add_lora_`
merges the file into the layers again.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from legato.errors import ModelError
from legato.models.temporal_attention import TimeAttention
from legato.tensor_file import save_tensors

DOT = ":"
"""Stands for a dot in the keys of a `ModuleDict`, which may hold none."""


class LowRank(nn.Module):
    """Adds B A to a weight; nothing as long as B is fresh.

    Args:
        weight: of the layer.
        rank: columns of B and rows of A.
    """

    def __init__(self, weight: Float[Tensor, "rows cols"], rank: int) -> None:
        super().__init__()
        rows, cols = weight.shape
        self.down = nn.Parameter(torch.randn(rank, cols, device=weight.device) * cols**-0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
        """Return the changed weight."""
        return weight + (self.up @ self.down).to(weight.dtype)


def adapt_(layers: nn.Module, rank: int) -> nn.ModuleDict:
    """Give every attention over time low-rank weights, in place; return them by layer.

    The layers themselves are frozen.

    Raises:
        ModelError: there is no such attention.
    """
    layers.requires_grad_(requires_grad=False)
    adapters = nn.ModuleDict()
    for place, attention in list(layers.named_modules()):
        if not isinstance(attention, TimeAttention):
            continue
        for name, module in list(attention.named_modules()):
            if isinstance(module, nn.Linear):
                adapter = LowRank(module.weight, rank)
                parametrize.register_parametrization(module, "weight", adapter)
                adapters[f"{place}.{name}".replace(".", DOT)] = adapter
    if not adapters:
        raise ModelError(
            "no low-rank weights for this model",
            why="its temporal layers hold no attention over frames",
            fix="use a model with temporal attention",
        )
    return adapters


def save_low_rank(adapters: nn.ModuleDict, path: Path) -> Path:
    """Write low-rank weights in half precision, under peft's names; return the file."""
    state: dict[str, Tensor] = {}
    for key, adapter in adapters.items():
        assert isinstance(adapter, LowRank)
        name = key.replace(DOT, ".")
        state[f"{name}.lora_A.weight"] = adapter.down.detach().half().cpu().contiguous()
        state[f"{name}.lora_B.weight"] = adapter.up.detach().half().cpu().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_tensors(state, path, metadata={"format": "pt"})
