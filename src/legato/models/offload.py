"""Weights of one part of a model in memory at a time."""

from collections.abc import Callable, Mapping

import torch
from torch import nn


class Offload:
    """Lets the weights of a part go when another part is used, and reads them again when needed.

    They are read from their files, on every device: the system keeps files in the memory that is
    free, and a segment's work takes far longer than reading them.

    Args:
        parts: each with what fills it again from its files, ready to compute.
    """

    def __init__(self, parts: Mapping[nn.Module, Callable[[], object]]) -> None:
        self.parts = dict(parts)
        for part in self.parts:
            part.register_forward_pre_hook(lambda module, _: self.use(module))

    def use(self, part: nn.Module) -> None:
        """Have the weights of this part in memory, and no others."""
        for other in self.parts:
            if other is not part:
                let_go_(other)
        if is_empty(part):
            self.parts[part]()


def let_go_(part: nn.Module) -> None:
    """Leave shapes and precision of a part's parameters, without numbers."""
    for module in part.modules():
        for name, parameter in module.named_parameters(recurse=False):
            empty = torch.empty_like(parameter, device="meta")
            setattr(module, name, nn.Parameter(empty, requires_grad=False))


def is_empty(part: nn.Module) -> bool:
    """Tell whether a part was let go."""
    return any(parameter.is_meta for parameter in part.parameters())
