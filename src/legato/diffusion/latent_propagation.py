"""The edit that carries clean estimates along the flow at chosen steps of the loop."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step
from legato.flow.propagate import DEFAULT_THRESHOLDS, Thresholds, propagate


@dataclass(frozen=True, kw_only=True)
class LatentPropagation:
    """Edit of x_0 for `denoise`: training-free propagation (arXiv:2312.06640, section 3.3).

    Frames that an earlier segment has emitted stay out of it, but for the last of them, whose
    propagated x_0 seeds the forward pass.
    """

    flow_forward: Float[Tensor, "K 2 H W"]
    """Flow between the clip's frames, from pair `first_pair` on."""

    flow_backward: Float[Tensor, "K 2 H W"]
    steps: Collection[int]
    """Indices of the loop at which it acts, from 0."""

    first_pair: int = 0
    """Index in the clip of the first pair that has a flow; earlier pairs are not needed."""

    num_anchors: int = 0
    """Leading frames of an earlier segment."""

    seeds: dict[int, Float[Tensor, "B C h w"]] = field(default_factory=dict)
    """Per step, the propagated x_0 of the frame before the first new one."""

    beta: float = 0.5
    mode: Literal["nearest", "bilinear"] = "nearest"
    thresholds: Thresholds = DEFAULT_THRESHOLDS

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0, propagated where this is one of the steps."""
        if step.index not in self.steps:
            return x0
        seed = self.seeds.get(step.index)
        first = self.num_anchors
        pair = (first if seed is None else first - 1) - self.first_pair
        batch = x0.shape[0]
        propagated = propagate(
            x0[:, first:],
            self.flow_forward[pair:].to(x0.device).expand(batch, -1, -1, -1, -1),
            self.flow_backward[pair:].to(x0.device).expand(batch, -1, -1, -1, -1),
            beta=self.beta,
            mode=self.mode,
            thresholds=self.thresholds,
            seed_previous=None if seed is None else seed.to(x0.device).expand(batch, -1, -1, -1),
        )
        return torch.cat((x0[:, :first], propagated), dim=1) if first else propagated
