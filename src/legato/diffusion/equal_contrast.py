"""Frames between two others, with the contrast of these.

One step from a blend gives the mean of what may lie between two frames, and a mean is softer than
anything it is a mean of: the video would pulse, crisp at each key frame. What is finer than the
mean of neighbouring cells is raised to the amplitude that the ends let expect.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CELLS = 3
"""Side of the square whose mean parts fine from coarse."""
STRONGEST = 1.6
"""Most that fine detail is raised: what is missing beyond that was never drawn."""


def equal_contrast(
    made: Float[Tensor, "B T C h w"], ends: Float[Tensor, "B 2 C h w"]
) -> Float[Tensor, "B T C h w"]:
    """Return frames whose fine detail is as strong as their ends', mixed by distance in time.

    It is never weakened, and so what stands still stays as it is.

    Args:
        made: clean latents, the first and the last frame those of `ends` or near them.
        ends: the frames that were given.
    """
    fine, wanted = _fine(made), _amplitude(_fine(ends))
    share = torch.linspace(0, 1, made.shape[1]).to(made)[:, None, None, None]
    gain = torch.lerp(wanted[:, :1], wanted[:, 1:], share) / _amplitude(fine).clamp(min=1e-6)
    return made + (gain.clamp(1, STRONGEST) - 1) * fine


def _fine(latents: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
    """Return what the mean over neighbouring cells takes away."""
    coarse = F.avg_pool2d(
        latents.flatten(0, 1), CELLS, stride=1, padding=CELLS // 2, count_include_pad=False
    )
    return latents - coarse.view_as(latents)


def _amplitude(fine: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T 1 1 1"]:
    return fine.square().mean(dim=(2, 3, 4), keepdim=True).sqrt()
