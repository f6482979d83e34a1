"""Guidance by the temporal layers: away from frames on their own, towards frames of one video.

f_image + s_T (f_video - f_image), where f_image is the same network without its temporal layers:
Hyung et al. 2024 (arXiv:2411.18664) guide away from a video network some of whose layers are
skipped; here all that make it one are. As Kynkaanniemi et al. 2024 (arXiv:2404.07724) found of text
guidance, it helps at strong noise only, where layout and motion are decided; below, the image model
finishes every frame with the detail that it has learned and the layers have not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from legato.diffusion.denoiser import Network, num_first_steps
from legato.models.inflate import VideoModel
from legato.models.micro_conditioning import ClipConditions


@dataclass(frozen=True, kw_only=True)
class TemporalGuided:
    """A `Network` that follows temporal layers more or less strongly, and down to a timestep."""

    unet: VideoModel
    scale: float
    """s_T: 1 plainly, in one pass; 0 not at all."""
    last_timestep: int
    """The smallest at which the layers act."""

    @classmethod
    def in_share(
        cls, unet: VideoModel, *, scale: float, share: float, timesteps: Sequence[int]
    ) -> "TemporalGuided":
        """Return one that acts in the first steps of a loop.

        Args:
            unet: of key frames.
            scale: s_T.
            share: of the steps, 0..1, rounded up.
            timesteps: of the loop, falling.
        """
        ends = [timesteps[0] + 1, *timesteps]
        last = ends[num_first_steps(share, len(timesteps))]
        return cls(unet=unet, scale=scale, last_timestep=last)

    def __call__(
        self,
        sample: Float[Tensor, "B T C h w"],
        timestep: Int[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B N D"],
        class_labels: Int[Tensor, " B"] | None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Float[Tensor, "B T c h w"]:
        """Return the guided prediction; branches of other guidance are guided each by itself."""
        network: Network = self.unet
        inputs = (sample, timestep, encoder_hidden_states, class_labels)
        scale = self.scale if int(timestep[0]) >= self.last_timestep else 0.0
        if scale == 1:
            return network(*inputs, conditions=conditions)
        with self.unet.disabled():
            by_image = network(*inputs, conditions=conditions)
        if scale == 0:
            return by_image
        return torch.lerp(by_image, network(*inputs, conditions=conditions), scale)
