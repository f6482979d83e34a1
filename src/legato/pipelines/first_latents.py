"""What a segment begins with: its frames' noise, and latents of the input where they are needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.diffusion.noise import frame_noise
from legato.diffusion.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class FirstLatents:
    """Draws noise, and puts the input under it where the loop starts part-way."""

    encode: Callable[[Float[Tensor, "1 1 3 sH sW"]], Float[Tensor, "1 1 C h w"]] | None
    """The model's encoder; None: it carries none."""

    channels: int
    """Of the latents."""

    scale: int
    """Pixels of what it encodes per pixel of the input, each way."""

    schedule: Schedule

    timesteps: Sequence[int]
    """Those of the loop, falling."""

    strength: float
    """1: noise alone; less needs the encoder."""

    seed: int

    shares_noise: bool
    """Whether all frames have the noise of one."""

    device: torch.device

    dtype: torch.dtype
    """Of the encoder."""

    def noise(
        self, purpose: str, channels: int, clip: Float[Tensor, "1 T 3 h w"], ticks: Sequence[int]
    ) -> Float[Tensor, "1 T C h w"]:
        """Return each frame's noise; of shared noise, whatever the times, that of one."""
        drawn = [0] if self.shares_noise else ticks
        shape = (channels, *clip.shape[-2:])
        noise = frame_noise(shape, seed=self.seed, purpose=purpose, ticks=drawn)
        return noise.to(self.device).expand(len(ticks), -1, -1, -1)[None]

    @torch.no_grad()
    def __call__(
        self, clip: Float[Tensor, "1 T 3 h w"], ticks: Sequence[int]
    ) -> Float[Tensor, "1 T C h w"]:
        """Return noise, or with strength below 1 the encoded input with that step's share of noise.

        Noise that no step looks at is not drawn: zeros stand for it, which take no memory.
        """
        if len(self.timesteps) == 1 and self.schedule.is_blind(self.timesteps[0]):
            return clip.new_zeros(()).expand(1, len(ticks), self.channels, *clip.shape[-2:])
        noise = self.noise("latents", self.channels, clip, ticks)
        if self.strength == 1:
            return noise
        alpha, sigma = self.schedule.scales(self.timesteps[0])
        return alpha * self.encoded(clip) + sigma * noise

    @torch.no_grad()
    def encoded(self, clip: Float[Tensor, "1 T 3 h w"]) -> Float[Tensor, "1 T C h w"]:
        """Return the latents of the input at full size."""
        assert self.encode is not None
        found = []
        for frame in clip[0]:  # one at a time: full-size pixels
            large = F.interpolate(frame[None], scale_factor=self.scale, mode="bicubic")
            found.append(self.encode(large[None].to(self.dtype)).float())
        return torch.cat(found, dim=1)
