"""A video made from a picture, which it follows the more, the further it is from it.

Stable Video Diffusion (Blattmann et al. 2023, arXiv:2311.15127, section 4.3): the picture's
latents lie under the noisy ones of every frame, its CLIP embedding takes the place of text, and
f_0 + g_i (f - f_0), where f_0 sees neither, has a scale g_i that rises from the first frame to the
last.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from legato.diffusion.denoiser import Network
from legato.diffusion.schedule import KarrasSchedule
from legato.models.micro_conditioning import ClipConditions


@dataclass(frozen=True, kw_only=True)
class PictureGuided:
    """A `Network` that is shown a picture."""

    network: Network
    """Sees the latents of the picture in channels behind its own."""
    schedule: KarrasSchedule
    latents: Float[Tensor, "1 1 C h w"]
    """Of the picture."""
    numbers: Float[Tensor, "1 K"]
    """Sinusoids of frame rate, motion and the noise on the picture."""
    least: float
    """Guidance of the first frame; 1: none."""
    most: float
    """That of the last one."""

    def __call__(
        self,
        sample: Float[Tensor, "B T C h w"],
        timestep: Int[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B 1 D"],
        class_labels: Int[Tensor, " B"] | None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Float[Tensor, "B T C h w"]:
        """Return the guided prediction; the network is told ln(s) / 4 of the noise level s.

        Args:
            sample: noisy latents of variance 1.
            timestep: of the schedule.
            encoder_hidden_states: the picture's embedding.
            class_labels: of other networks; not looked at.
            conditions: what temporal layers are told.
        """
        level = self.schedule.noise_level(int(timestep[0]))
        time = torch.full(timestep.shape, math.log(level) / 4, device=sample.device)
        numbers = self.numbers.to(sample).expand(len(sample), -1)

        def predict(share: float) -> Tensor:
            below = share * self.latents.to(sample).expand_as(sample)
            seen = torch.cat((sample, below), dim=2)
            text = share * encoder_hidden_states
            return self.network(seen, time, text, numbers, conditions=conditions)

        following = predict(1.0)
        if self.least == self.most == 1:
            return following
        scale = torch.linspace(self.least, self.most, sample.shape[1]).to(sample)
        return torch.lerp(predict(0.0), following, scale[:, None, None, None])
