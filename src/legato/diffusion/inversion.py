"""From clean latents to the noise that leads back to them: DDIM, walked backwards."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Denoiser
from legato.diffusion.guidance import guide
from legato.diffusion.prediction import ddim_step, eps_from
from legato.diffusion.schedule import Schedule


@torch.no_grad()
def invert(
    denoiser: Denoiser,
    latents: Float[Tensor, "B T C h w"],
    *,
    schedule: Schedule,
    timesteps: Sequence[int],
) -> Float[Tensor, "B T C h w"]:
    """Return latents at the first timestep from which DDIM leads back to clean ones.

    Song et al. 2021, arXiv:2010.02502, section 4.3: z_t = alpha_t x_0 + sigma_t eps, with the eps
    that the network sees at t in the cleaner latents before it. Exact in the limit of many steps;
    a guidance scale of 1 keeps it stable.

    Args:
        denoiser: network, conditions (of what the latents show, or no words) and plan.
        latents: clean, scaled.
        schedule: scales of signal and noise, and what the network predicts.
        timesteps: falling, those that the way back will visit.
    """
    z, before = latents.float(), schedule.scales(None)
    chain = denoiser.conditions.links
    for timestep in reversed(timesteps):
        scales = schedule.scales(timestep)
        predictions = denoiser(z, timestep).chunk(len(chain))
        prediction = guide(predictions, [scale for scale, _ in chain])
        eps = eps_from(prediction, z, scales=scales, prediction_type=schedule.prediction_type)
        x0 = (z - before[1] * eps) / before[0]
        z, before = ddim_step(x0, eps, scales=scales), scales
    return z
