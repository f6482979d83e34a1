"""Exponential moving average of weights: what is validated and shipped."""

import torch
from torch import Tensor, nn


class Ema:
    """Averages of a module's trainable parameters.

    The decay grows as min(decay, (1 + n) / (10 + n)), so that early steps do not linger.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay, self.updates = decay, 0
        self.average = {
            n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the averages towards the module's parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in module.named_parameters():
            if name in self.average:
                self.average[name].lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def swap_(self, module: nn.Module) -> None:
        """Exchange averages and parameters in place; a second call undoes it."""
        for name, parameter in module.named_parameters():
            if name in self.average:
                kept: Tensor = parameter.detach().clone()
                parameter.copy_(self.average[name])
                self.average[name].copy_(kept)
