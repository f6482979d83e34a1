"""Latents of one frame that glide on, as the start of a clip: Text2Video-Zero's motion.

Khachatryan et al. 2023, arXiv:2303.13439, section 3.3.1: the first frame is denoised to a timestep
t', moved, and noised again to an earlier t, from where all frames are denoised.
"""

from math import sqrt

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.schedule import Schedule
from legato.flow.warp import warp


def moved_latents(
    first: Float[Tensor, "B C h w"], num_frames: int, *, cells_per_frame: tuple[float, float]
) -> Float[Tensor, "B T C h w"]:
    """Return frame k as the first one read k steps of a constant motion further on.

    Read at the nearest cell, mirrored beyond the border.

    Args:
        first: latents of the first frame.
        num_frames: frames of the clip.
        cells_per_frame: motion, x then y, in latent cells; the authors' 12 pixels are 1.5.
    """
    step = torch.tensor(cells_per_frame, device=first.device)
    motion = step * torch.arange(num_frames, device=first.device)[:, None]
    batch, _, rows, cols = first.shape
    flow = repeat(motion, "t c -> (b t) c h w", b=batch, h=rows, w=cols)
    frames = repeat(first, "b c h w -> (b t) c h w", t=num_frames)
    moved = warp(frames, flow, mode="nearest", padding="reflection")
    return rearrange(moved, "(b t) c h w -> b t c h w", b=batch).to(first.dtype)


def noised_again(
    z: Float[Tensor, "*shape"],
    noise: Float[Tensor, "*shape"],
    *,
    schedule: Schedule,
    start: int,
    stop: int,
) -> Float[Tensor, "*shape"]:
    """Return latents of timestep `start` taken back to the noisier `stop` by the forward process.

    z_stop = r z + sqrt(1 - r^2) noise with r = alpha_stop / alpha_start (Ho et al. 2020,
    arXiv:2006.11239, eq. 2 over several timesteps).
    """
    ratio = schedule.scales(stop)[0] / schedule.scales(start)[0]
    return ratio * z + sqrt(1 - ratio**2) * noise
