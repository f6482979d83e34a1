"""What a camera would see that drives on from a single frame, by ego-motion: the sides come nearer.

Ahead lies a corridor: whatever is seen beside the road stands on two upright walls along it, so
that its depth follows from its column. What lies on the ground is left out: cars that drive ahead
would smear over the road.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from legato.flow.driving_camera import CAMERA_HEIGHT_M, FOCAL, HORIZON
from legato.flow.steady import enlarged, moved_frames

WALL_M = 14.0
"""Distance of either wall from the camera."""
BEHIND = 1e-3
"""Share of its depth at which a point counts as passed."""


def driven_frames(
    frame: Float[Tensor, "1 3 H W"], count: int, metres: float
) -> tuple[Float[Tensor, "K 3 H W"], Float[Tensor, "K 1 H W"]]:
    """Return the frames after a single one, and the share of each of their pixels that is foreseen.

    A point of a wall keeps its ray from the point ahead: where depth falls from Z + d to Z, it
    moves away by the factor (Z + d) / Z.

    Args:
        frame: the one that is known, [-1, 1], by `driving_camera`'s camera.
        count: frames to make.
        metres: that the camera moves from frame to frame; negative: backwards.
    """
    large, factor = enlarged(frame)
    rows, columns = large.shape[-2:]
    down = torch.arange(rows, device=large.device) + 0.5 - HORIZON * rows
    right = torch.arange(columns, device=large.device) + 0.5 - columns / 2
    x, y = torch.meshgrid(right, down, indexing="xy")
    per_metre = x.abs() / (WALL_M * FOCAL * columns)  # 1 / depth
    is_wall = (y / CAMERA_HEIGHT_M < x.abs() / WALL_M).to(large)
    scales = [
        1 / (1 + number * metres * per_metre).clamp(min=BEHIND) for number in range(1, count + 1)
    ]
    displacements = [(torch.stack((x, y)) * (scale - 1))[None] for scale in scales]
    return moved_frames(large, displacements, is_wall[None, None], factor)
