"""What a moving camera sees where it is known how far away things are: the flow of its own motion.

Places are pixels in picture widths from the point ahead, x to the right and y down. Where the depth
of a point falls from Z + d to Z, it moves away from that point by the factor (Z + d) / Z.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from legato.axes import LUMA
from legato.flow.driving_camera import CAMERA_HEIGHT_M, FOCAL, HORIZON

WALL_M = 14.0
"""Distance of either wall of a corridor from the camera."""
BEHIND = 1e-3
"""Share of its depth at which a point counts as passed."""
OUTLIER = 2.0 / 384
"""Distance from the common motion, in picture widths, at which a place counts half: what moves by
itself."""
ROUNDS = 10


class Plane:
    """Everything is as far away: the picture moves as one zoom."""

    def nearness(self, places: Float[Tensor, "2 H W"]) -> Float[Tensor, "H W"]:
        """Return 1 / depth: 1, so that an advance is a share of the depth."""
        return torch.ones_like(places[0])

    def is_known(self, places: Float[Tensor, "2 H W"]) -> Bool[Tensor, "H W"]:
        """Return where the depth is known: everywhere."""
        return torch.ones_like(places[0], dtype=torch.bool)


class Corridor:
    """A road to `driving_camera`: what is seen beside it stands on two upright walls, in metres.

    Depth follows from the column, and is wrong on the ground.
    """

    def nearness(self, places: Float[Tensor, "2 H W"]) -> Float[Tensor, "H W"]:
        """Return 1 / depth, per metre."""
        return places[0].abs() / (WALL_M * FOCAL)

    def is_known(self, places: Float[Tensor, "2 H W"]) -> Bool[Tensor, "H W"]:
        """Return where the depth is known: on a wall."""
        return places[1] / CAMERA_HEIGHT_M < places[0].abs() / WALL_M


Surroundings = Plane | Corridor
"""What stays around the camera as it moves on."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Of a camera, from one frame to the next."""

    advance: float
    """Forwards, in the units of the surroundings; negative: backwards."""
    shift: Float[Tensor, "2 1 1"]
    """Of the picture by turning, picture widths: to the place a frame before."""


def places_of(frame: Float[Tensor, "*b c H W"]) -> Float[Tensor, "2 H W"]:
    """Return the places of a frame's pixels."""
    rows, columns = frame.shape[-2:]
    right = torch.arange(columns, device=frame.device) + 0.5 - columns / 2
    down = torch.arange(rows, device=frame.device) + 0.5 - HORIZON * rows
    return torch.stack(torch.meshgrid(right, down, indexing="xy")) / columns


def place_before(
    places: Float[Tensor, "2 H W"], motion: Motion, around: Surroundings
) -> Float[Tensor, "2 H W"]:
    """Return where what is seen at these places was seen a frame before."""
    left = (1 + motion.advance * around.nearness(places)).clamp(min=BEHIND)
    return places / left + motion.shift


def camera_motion(
    backward: Float[Tensor, "1 2 H W"], frame: Float[Tensor, "1 3 H W"], around: Surroundings
) -> Motion:
    """Return the motion that most of a flow agrees with.

    Least squares over pixels, weighted by the contrast around them and, in rounds, by how well they
    fit (Cauchy weights), so that neither flat sky nor other cars decide; Gauss-Newton steps.

    Args:
        backward: to the frame before, pixels, x then y.
        frame: that it lives on.
        around: what the camera moves through.
    """
    device, frame, columns = frame.device, frame.cpu(), frame.shape[-1]  # not every one has float64
    places = places_of(frame).double()
    before = places + backward[0].cpu().double() / columns
    contrast = (_contrast(frame) * around.is_known(places)).double() + 1e-9
    nearness, weight = around.nearness(places), contrast
    motion = Motion(0.0, places.new_zeros(2, 1, 1))
    for _ in range(ROUNDS):
        share = weight / weight.sum()
        left = (1 + motion.advance * nearness).clamp(min=BEHIND)
        slope, rest = -places * nearness / left.square(), before - places / left
        middle, shift = ((share * x).sum(dim=(1, 2), keepdim=True) for x in (slope, rest))
        slope = slope - middle
        step = (share * slope * (rest - shift)).sum() / (share * slope.square()).sum()
        motion = Motion(motion.advance + float(step), shift - step * middle)
        error = (before - place_before(places, motion, around)).norm(dim=0) * columns
        weight = contrast / (1 + (error / (OUTLIER * columns)).square())
    return Motion(motion.advance, motion.shift.float().to(device))


def _contrast(frame: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "H W"]:
    """Return the mean gradient of luma around every pixel."""
    luma = (frame * torch.tensor(LUMA, device=frame.device).view(3, 1, 1)).sum(dim=1, keepdim=True)
    down, right = luma.diff(dim=2).abs(), luma.diff(dim=3).abs()
    slope = F.pad(down, (0, 0, 1, 0)) + F.pad(right, (1, 0, 0, 0))
    return F.avg_pool2d(slope, 9, stride=1, padding=4)[0, 0]
