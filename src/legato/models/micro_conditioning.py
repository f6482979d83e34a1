"""What temporal layers are told of a clip beside its text: micro-conditioning and context.

Micro-conditioning adds learned vectors to the time embedding that temporal layers read; the image
model never sees them. Context enters the temporal convolutions (`temporal_conv.TemporalConv`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from legato.models.positions import waves, zero_

NUM_STAGES = 2
NUM_WAVES = 256


@dataclass(frozen=True, kw_only=True)
class ClipConditions:
    """What one call tells the temporal layers; None: nothing is said."""

    given: Float[Tensor, "B T K h w"] | None = None
    """c_S = (mask * z, mask): the latents of given frames, zeros elsewhere, and 1 where given
    (Blattmann et al. 2023, arXiv:2304.08818, section 3.2)."""
    text: Float[Tensor, "B N E"] | None = None
    """What the temporal layers read where that differs from the spatial layers' text (of a
    fine-tuned text encoder: Blattmann et al. 2023, section 4.2)."""
    frame_rate: Float[Tensor, "*B"] | None = None
    """Frames per second of each clip."""
    stage: Int[Tensor, "*B"] | None = None
    """Of an interpolation: 0 the first, 1 the second pass."""
    noise_level: Int[Tensor, "*B"] | None = None
    """How much noise the given frames carry, as a training timestep."""
    image_only: Bool[Tensor, "B T"] | None = None
    """True for frames to which temporal layers add nothing, alpha = 1: all frames of a clip that is
    a batch of images in joint training, or single ones."""
    window: int | None = None
    """Frames further apart do not attend to each other: for clips longer than in training."""


class WaveEmbedding(nn.Module):
    """An MLP of a number's sinusoids, which starts as zero (Stable Video Diffusion's recipe)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(NUM_WAVES, width)
        self.linear_2 = nn.Linear(width, width)
        zero_(self.linear_2)

    def forward(self, values: Float[Tensor, "B"] | Int[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """Return one vector per number."""
        weight = self.linear_1.weight
        hidden = F.silu(self.linear_1(waves(values, NUM_WAVES).to(weight.dtype)))
        out: Tensor = self.linear_2(hidden)
        return out


class MicroConditioning(nn.Module):
    """Vectors of frame rate, interpolation stage and noise level; fresh ones are zero.

    Args:
        width: of the time embedding.
        frame_rate: whether there is a vector for the frame rate.
        stage: whether there is one for the interpolation stage.
        noise_level: whether there is one for the noise of the given frames.
    """

    def __init__(self, width: int, *, frame_rate: bool, stage: bool, noise_level: bool) -> None:
        super().__init__()
        self.width = width
        self.frame_rate = WaveEmbedding(width) if frame_rate else None
        self.noise_level = WaveEmbedding(width) if noise_level else None
        self.stage = nn.Embedding(NUM_STAGES, width) if stage else None
        if self.stage is not None:
            zero_(self.stage)

    def forward(self, clips: int, conditions: ClipConditions) -> Float[Tensor, "B E"]:
        """Return the sum of the vectors of what is said, for each of the clips."""
        weight = next(self.parameters())
        total = torch.zeros(clips, self.width, device=weight.device, dtype=weight.dtype)
        for layer, said in (
            (self.frame_rate, conditions.frame_rate),
            (self.stage, conditions.stage),
            (self.noise_level, conditions.noise_level),
        ):
            if layer is not None and said is not None:
                total = total + layer(said.to(weight.device).reshape(-1).expand(clips))
        return total
