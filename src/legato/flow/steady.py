"""Where frames lead if the camera goes on as it does: the frames that steady motion would show.

The camera's own motion, no more: flow that may differ from place to place tears things apart when
it is continued, above all in frames that a network drew.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.flow.ego_motion import (
    Corridor,
    Motion,
    Surroundings,
    camera_motion,
    place_before,
    places_of,
)
from legato.flow.estimate import FlowEstimator
from legato.flow.warp import warp

LEAST_SIDE = 192
"""Pixels each way that flow is estimated on at least: small frames are enlarged."""


def steady_frames(
    pair: Float[Tensor, "2 3 H W"], count: int, estimator: FlowEstimator, around: Surroundings
) -> tuple[Float[Tensor, "K 3 H W"], Float[Tensor, "K 1 H W"]]:
    """Return the frames after a pair, and the share of each of their pixels that is foreseen.

    Args:
        pair: two frames in a row, [-1, 1].
        count: frames to make.
        estimator: of the flow.
        around: what the camera moves through.
    """
    large, factor = _enlarged(pair)
    _, backward = estimator(large)
    motion = camera_motion(backward, large[1:], around)
    return _moved(large[1:], count, motion, around, torch.ones_like(large[1:, :1]), factor)


def driven_frames(
    frame: Float[Tensor, "1 3 H W"], count: int, metres: float
) -> tuple[Float[Tensor, "K 3 H W"], Float[Tensor, "K 1 H W"]]:
    """Return the frames after a single one, and the share of each of their pixels that is foreseen.

    What lies on the ground is not: cars that drive ahead would smear over the road.

    Args:
        frame: the one that is known, [-1, 1], of a road by `driving_camera`'s camera.
        count: frames to make.
        metres: that the camera moves from frame to frame; negative: backwards.
    """
    large, factor = _enlarged(frame)
    around = Corridor()
    motion = Motion(metres, large.new_zeros(2, 1, 1))
    known = around.is_known(places_of(large)).to(large)[None, None]
    return _moved(large, count, motion, around, known, factor)


def _moved(
    large: Float[Tensor, "1 3 h w"],
    count: int,
    motion: Motion,
    around: Surroundings,
    foreseen: Float[Tensor, "1 1 h w"],
    factor: int,
) -> tuple[Float[Tensor, "K 3 H W"], Float[Tensor, "K 1 H W"]]:
    """Return the frames after an enlarged one, reduced again, and the share of pixels that count.

    A camera that moves on sees the same flow at a place of the picture however long it does, so
    that places are followed back frame by frame and none is read twice. What comes from outside the
    picture does not count.
    """
    places, columns = places_of(large), large.shape[-1]
    made = [large.new_zeros(0, 4, *(side // factor for side in large.shape[-2:]))]
    source = places
    for _ in range(count):
        source = place_before(source, motion, around)
        displacement = (source - places)[None] * columns
        moved = warp(large, displacement, padding="border")
        seen = warp(torch.ones_like(foreseen), displacement) * foreseen
        made.append(F.avg_pool2d(torch.cat((moved, seen), dim=1), factor))
    frames = torch.cat(made)
    return frames[:, :3], frames[:, 3:]


def _enlarged(frames: Float[Tensor, "N 3 H W"]) -> tuple[Float[Tensor, "N 3 h w"], int]:
    """Return frames of at least `LEAST_SIDE`, and how many times as large they are."""
    factor = max(1, -(-LEAST_SIDE // min(frames.shape[-2:])))
    if factor == 1:
        return frames, factor
    return F.interpolate(frames, scale_factor=factor, mode="bicubic").clamp(-1, 1), factor
