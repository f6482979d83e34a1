"""Frames that are known but that the network cannot be shown lead the others to them.

Reconstruction guidance (Ho et al. 2022, Video Diffusion Models, arXiv:2204.03458, eq. 7): with x^a
known, the estimate of the others becomes x_b - (w alpha / 2) grad_{z_b} |x^a - x_a(z)|^2, and x^a
stands in place of its own estimate. No layer has to have learned it; it costs a backward pass.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from legato.diffusion.denoiser import Network
from legato.diffusion.prediction import eps_from, prediction_of, x0_from
from legato.diffusion.schedule import Schedule
from legato.models.micro_conditioning import ClipConditions


@dataclass(frozen=True, kw_only=True)
class ReconstructionGuided:
    """A `Network` whose predictions arrive at known frames; of clips in one window, untiled."""

    network: Network
    schedule: Schedule
    known: Float[Tensor, "B T C h w"]
    """Clean latents; what stands in other frames does not count."""
    mask: Bool[Tensor, "T"]
    """Which frames are known."""
    weight: float
    """w: how strongly the others are led; 0 only puts the known ones in their place."""

    def __call__(
        self,
        sample: Float[Tensor, "B T C h w"],
        timestep: Int[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B N D"],
        class_labels: Int[Tensor, " B"] | None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Float[Tensor, "B T C h w"]:
        """Return the changed prediction; branches of the guidance are led each by itself."""
        scales = alpha, _ = self.schedule.scales(int(timestep[0]))
        kind = self.schedule.prediction_type
        branches = len(sample) // len(self.known)
        known = self.known.to(sample).repeat(branches, 1, 1, 1, 1)
        with torch.enable_grad():
            z = sample.detach().clone().requires_grad_()
            prediction = self.network(
                z, timestep, encoder_hidden_states, class_labels, conditions=conditions
            )
            x0 = x0_from(prediction, z, scales=scales, prediction_type=kind)
            missed = (x0 - known)[:, self.mask].float().square().sum()
            (slope,) = torch.autograd.grad(missed, z)
        x0, z = x0.detach() - self.weight * alpha / 2 * slope, z.detach()
        x0 = torch.where(self.mask.to(z.device)[:, None, None, None], known, x0)
        # the noise that belongs to the changed estimate, so that z is kept
        eps = eps_from(x0, z, scales=scales, prediction_type="sample")
        sides = torch.tensor(scales).to(z)
        return prediction_of(x0, eps, scales=(sides[0], sides[1]), prediction_type=kind)
