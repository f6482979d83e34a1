"""Everything a batch of key frames knows about where its pixels are in the other frames.

Pairs are cyclic: pair t is frames t and (t+1) mod T, so that the last frame is tied to the first.
Yang et al. 2024 (FRESCO), arXiv:2403.12962, section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from legato.flow.estimate import FlowEstimator
from legato.flow.occlusion import changed, occluded
from legato.flow.resample import Size, cover_mask, resample, resample_flow, resample_mask
from legato.flow.trajectories import Trajectories, chain, link_tokens

STRIDES = (8, 16, 32)
"""Pixels per token where self-attention is guided; those of U-Nets on latents of 8x8 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackMotion:
    """Flow of every frame but the first to an earlier one, and where that cannot be believed."""

    flow: Float[Tensor, "K 2 H W"]
    """Entry k lives on frame k+1; pixels, x then y."""
    hidden: Bool[Tensor, "K H W"]
    """On frame k+1: not seen in the earlier frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclicMotion:
    """Flows of all cyclic pairs, and where they cannot be believed."""

    flow_forward: Float[Tensor, "T 2 H W"]
    """Entry t lives on frame t and points to frame t+1; pixels, x then y."""
    flow_backward: Float[Tensor, "T 2 H W"]
    """Entry t lives on frame t+1 and points to frame t."""
    occluded_forward: Bool[Tensor, "T H W"]
    """On frame t: not seen in frame t+1."""
    occluded_backward: Bool[Tensor, "T H W"]
    """On frame t+1: not seen in frame t."""

    @property
    def size(self) -> Size:
        """Rows and columns."""
        return self.flow_forward.shape[-2], self.flow_forward.shape[-1]

    def to(self, device: torch.device | str) -> "CyclicMotion":
        """Return it with every tensor on a device."""
        return CyclicMotion(
            flow_forward=self.flow_forward.to(device),
            flow_backward=self.flow_backward.to(device),
            occluded_forward=self.occluded_forward.to(device),
            occluded_backward=self.occluded_backward.to(device),
        )

    def resized(self, size: Size) -> "CyclicMotion":
        """Return the motion for features of another size; one occluded pixel occludes a cell."""
        return CyclicMotion(
            flow_forward=resample_flow(self.flow_forward, size),
            flow_backward=resample_flow(self.flow_backward, size),
            occluded_forward=cover_mask(self.occluded_forward, size),
            occluded_backward=cover_mask(self.occluded_backward, size),
        )

    @property
    def to_previous(self) -> BackMotion:
        """The motion of every later frame to the one before it."""
        return BackMotion(flow=self.flow_backward[:-1], hidden=self.occluded_backward[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLinks:
    """What attention needs at one size of its token grid; tokens are numbered row by row."""

    stride: int
    """Pixels per token along each axis."""
    size: Size
    """Rows and columns of tokens."""
    unique: Bool[Tensor, "T N"]
    """Tokens not seen in the frame before, and all of frame 0: together they show everything."""
    trajectories: Trajectories


@dataclass(frozen=True, slots=True, kw_only=True)
class Correspondence:
    """The motion of a batch at full size, and its token links by stride."""

    motion: CyclicMotion
    links: tuple[TokenLinks, ...]

    def at(self, *, stride: int) -> TokenLinks:
        """Return the links of a token grid of so many pixels per token.

        Raises:
            KeyError: they were not prepared.
        """
        return {links.stride: links for links in self.links}[stride]

    def to(self, device: torch.device | str) -> "Correspondence":
        """Return it with every tensor on a device."""
        return Correspondence(
            motion=self.motion.to(device),
            links=tuple(
                replace(
                    each, unique=each.unique.to(device), trajectories=each.trajectories.to(device)
                )
                for each in self.links
            ),
        )


def correspond(
    frames: Float[Tensor, "T 3 H W"],
    estimate: FlowEstimator,
    *,
    strides: Sequence[int] = STRIDES,
) -> Correspondence:
    """Estimate the motion of a batch and prepare the links of its tokens.

    Args:
        frames: RGB in [-1, 1]; one is legal.
        estimate: finds the flow; the result is on the device of the frames.
        strides: pixels per token of each grid to prepare.
    """
    motion = follow(frames, estimate)
    return Correspondence(
        motion=motion, links=tuple(link(frames, motion, stride=stride) for stride in strides)
    )


def follow(frames: Float[Tensor, "T 3 H W"], estimate: FlowEstimator) -> CyclicMotion:
    """Return the flow of every cyclic pair and its occlusions: geometric or photometric."""
    forward, backward = (
        flow.to(frames.device) for flow in estimate(torch.cat((frames, frames[:1])))
    )
    return with_occlusions(frames, forward, backward)


def to_first(frames: Float[Tensor, "T 3 H W"], estimate: FlowEstimator) -> BackMotion:
    """Return the motion of every later frame to the first one, each estimated directly.

    Args:
        frames: RGB in [-1, 1], two or more.
        estimate: finds the flow; the result is on the device of the frames.
    """
    pairs = [
        [flow.to(frames.device) for flow in estimate(torch.stack((frames[0], frame)))]
        for frame in frames[1:]
    ]
    forward, backward = (torch.cat(flows) for flows in zip(*pairs, strict=True))
    firsts = frames[:1].expand(len(pairs), -1, -1, -1)
    hidden = occluded(backward, forward) | changed(frames[1:], firsts, backward)
    return BackMotion(flow=backward, hidden=hidden)


def with_occlusions(
    frames: Float[Tensor, "T 3 H W"],
    flow_forward: Float[Tensor, "T 2 H W"],
    flow_backward: Float[Tensor, "T 2 H W"],
) -> CyclicMotion:
    """Return given flows of all cyclic pairs with the occlusions that they and the frames show."""
    following = frames.roll(-1, dims=0)
    return CyclicMotion(
        flow_forward=flow_forward,
        flow_backward=flow_backward,
        occluded_forward=occluded(flow_forward, flow_backward)
        | changed(frames, following, flow_forward),
        occluded_backward=occluded(flow_backward, flow_forward)
        | changed(following, frames, flow_backward),
    )


def link(frames: Float[Tensor, "T 3 H W"], motion: CyclicMotion, *, stride: int) -> TokenLinks:
    """Return the links of one token grid; the pair that closes the circle is not used.

    Args:
        frames: RGB in [-1, 1].
        motion: of these frames.
        stride: pixels per token; sides that it does not divide are rounded up, as U-Nets do.
    """
    rows, cols = motion.size
    size = -(-rows // stride), -(-cols // stride)
    hidden = resample_mask(motion.occluded_backward[:-1], size)
    steps = link_tokens(
        resample_flow(motion.flow_backward[:-1], size), hidden, resample(frames.float(), size)
    )
    first = torch.ones(1, size[0] * size[1], dtype=torch.bool, device=hidden.device)
    return TokenLinks(
        stride=stride,
        size=size,
        unique=torch.cat((first, hidden.flatten(1))),
        trajectories=chain(steps),
    )
