"""Features of a decoder, moved by a few gradient steps until they agree between frames.

Yang et al. 2024, arXiv:2403.12962, section 4.3: what enters each decoder block is optimised for
two things: points keep their features along the flow, and positions of a frame are as alike as they
are in the input. All in float32; the halves of guidance one after another.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from legato.diffusion.feature_losses import (
    gram_l1,
    gram_squared,
    temporal_both_ways,
    temporal_onward,
    unit,
)
from legato.flow.correspondence import CyclicMotion
from legato.models.attention_sites import decoder_blocks
from legato.models.reference import Reference

VARIANCE_FLOOR = 1e-5
Smooth = Callable[[Tensor], Tensor]
"""Features `B T C h w` to smoother ones."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """How decoder features are optimised; by default as in FRESCO's released code."""

    num_iterations: int = 20
    """Steps of Adam."""

    learning_rate: float = 0.2
    """Of Adam; no element moves farther at the first step."""

    temporal: Literal["both_ways", "onward"] = "both_ways"
    """both_ways: mean over all elements, forth and back, the last frame and the first too; onward:
    sum over the pairs of consecutive frames."""

    temporal_weight: float = 2.0
    """Of the temporal loss."""

    spatial: Literal["l1", "squared"] = "l1"
    """Difference of similarities: mean of its magnitude, or sum of its square, which costs less
    where there are more positions than channels."""

    spatial_weight: float = 100.0
    """Of the spatial loss."""

    variance_offset: float = 1.0
    """Added to the variance that the features get back. The released code adds 1, which widens
    them where they vary little; 1e-5 gives them their own statistics."""


RELEASED_FEATURES = FeatureOptions()
PAPER_FEATURES = replace(
    RELEASED_FEATURES,
    learning_rate=0.4,
    temporal="onward",
    temporal_weight=1.0,
    spatial="squared",
    spatial_weight=50.0,
    variance_offset=VARIANCE_FLOOR,
)


def optimise_features(
    features: Float[Tensor, "B T C h w"],
    *,
    flow: CyclicMotion | None,
    target: Float[Tensor, "B T C h w"] | None,
    options: FeatureOptions = RELEASED_FEATURES,
) -> Float[Tensor, "B T C h w"]:
    """Return features that agree better, with the mean and spread per channel that they had.

    Works inside `no_grad` and `inference_mode`. Without flow, or with one frame, and without target
    the features themselves are returned.

    Args:
        features: what enters a decoder block; B counts the halves of guidance.
        flow: between the frames; None leaves the temporal loss out.
        target: features of the reference pass; None leaves the spatial loss out.
        options: weights, losses and steps.
    """
    moved = moved_features(features, flow=flow, target=target, options=options)
    if moved is features:
        return features
    start = features.float()
    return with_statistics(moved, start, variance_offset=options.variance_offset).to(features.dtype)


def moved_features(
    features: Float[Tensor, "B T C h w"],
    *,
    flow: CyclicMotion | None,
    target: Float[Tensor, "B T C h w"] | None,
    options: FeatureOptions = RELEASED_FEATURES,
) -> Float[Tensor, "B T C h w"]:
    """Return the features after the steps of Adam, before they get their statistics back; float32.

    Arguments as in `optimise_features`.
    """
    flow = flow if features.shape[1] > 1 else None
    if flow is None and target is None:
        return features
    halves = len(features)
    with torch.inference_mode(False), torch.enable_grad():
        # clones: tensors of inference mode cannot be saved for a backward pass
        rows, cols = features.shape[-2:]
        near = None if flow is None else flow.to(features.device).resized((rows, cols))
        if near is not None:
            parts = [part.name for part in fields(near)]
            near = replace(near, **{part: getattr(near, part).clone() for part in parts})
        results = []
        for half in range(halves):
            wanted = None if target is None else unit(target[half].float().clone())
            start = features[half].float().clone()
            results.append(_descend(start, near, wanted, options, share=1 / halves))
        return torch.stack(results)


def _descend(
    start: Float[Tensor, "T C h w"],
    flow: CyclicMotion | None,
    target: Float[Tensor, "T N C"] | None,
    options: FeatureOptions,
    *,
    share: float,
) -> Float[Tensor, "T C h w"]:
    """Take the steps for one half, whose means count by its share of all elements."""
    f = nn.Parameter(start)
    optimiser = torch.optim.Adam([f], lr=options.learning_rate, foreach=False)
    for _ in range(options.num_iterations):
        optimiser.zero_grad()
        if flow is not None:  # one backward pass after another: each frees what it held
            if options.temporal == "both_ways":
                loss = share * temporal_both_ways(f, flow)
            else:
                loss = temporal_onward(f, flow)
            (options.temporal_weight * loss).backward()  # type: ignore[no-untyped-call]
        if target is not None:
            if options.spatial == "l1":
                loss = share * gram_l1(unit(f), target)
            else:
                loss = gram_squared(unit(f), target)
            (options.spatial_weight * loss).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return f.detach()


def with_statistics(
    x: Float[Tensor, "B T C h w"],
    like: Float[Tensor, "B T C h w"],
    *,
    variance_offset: float = VARIANCE_FLOOR,
) -> Float[Tensor, "B T C h w"]:
    """Return x with the mean and spread of other features, per frame and channel.

    AdaIN (Huang and Belongie 2017, arXiv:1703.06868, eq. 8), unbiased variances.
    """
    own, other = (_statistics(y) for y in (x, like))
    spread = ((other[0] + variance_offset) / (own[0] + VARIANCE_FLOOR)).sqrt()
    return (x - own[1]) * spread + other[1]


def _statistics(x: Float[Tensor, "B T C h w"]) -> tuple[Tensor, Tensor]:
    positions = x.shape[-2] * x.shape[-1]
    variance, mean = torch.var_mean(x, dim=(-2, -1), correction=int(positions > 1), keepdim=True)
    return variance, mean


@dataclass(kw_only=True)
class FeatureOptimisation:
    """Optimises what enters the decoder blocks of a U-Net, while it is on.

    The fields change between calls of the U-Net.
    """

    options: FeatureOptions = RELEASED_FEATURES
    num_frames: int = 0
    """Frames of each half; 0 is off."""
    flow: CyclicMotion | None = None
    reference: Reference | None = None
    background: Smooth | None = None
    """Smooths what was optimised, e.g. where the background shows."""

    def attach(self, unet: nn.Module, blocks: Iterable[str] | None = None) -> Callable[[], None]:
        """Put the pre-hooks on decoder blocks, by default all; return what takes them off."""
        undo = ExitStack()
        for name, block in decoder_blocks(unet).items():
            if blocks is None or name in blocks:
                hook = _BlockHook(self, name)
                undo.callback(block.register_forward_pre_hook(hook, with_kwargs=True).remove)
        return undo.close

    def __call__(self, name: str, features: Float[Tensor, "BT C h w"]) -> Tensor:
        """Return what shall enter the block of that name."""
        target = None if self.reference is None else self.reference.features[name]
        shaped = "(b t) c h w -> b t c h w"
        clip = rearrange(features, shaped, t=self.num_frames)
        out = optimise_features(
            clip,
            flow=self.flow,
            target=None if target is None else rearrange(target, shaped, t=self.num_frames),
            options=self.options,
        )
        if self.background is not None:
            out = self.background(out)
        return out.reshape(features.shape)


class _BlockHook:
    """Pre-hook with keywords on one decoder block."""

    def __init__(self, owner: FeatureOptimisation, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return the arguments with other features, or None where they stay."""
        if not self.owner.num_frames:
            return None
        if args:
            return (self.owner(self.name, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.owner(self.name, kwargs["hidden_states"])}
