"""A diffusion model of pixels that upscales: image layers on single frames, then layers for time.

The upsampler of Video LDM for driving (Blattmann et al. 2023, arXiv:2304.08818, section 3.4): c is
the small clip under noise of a drawn level, which the network is told. It learns on patches and
works on frames of any size. The network predicts x_0 and is judged by v, |x_0 - x_0_hat|^2 /
sigma^2 (Li and He 2025, arXiv:2511.13720): a cell has as many channels of noise as the network is
wide, and to predict v it would have to carry all of them through.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from legato.diffusion.augmentation import augment
from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.schedule import Schedule
from legato.diffusion.spans import Span
from legato.models.inflate import VideoModel
from legato.models.pixel_residual import CHANNELS, PixelResidual
from legato.models.text import WordEncoder
from legato.training.batches import unit_range
from legato.training.generator_stages import VALIDATED_AT
from legato.training.trainer import Batch
from legato.training.upscaler_stages import VALIDATION_LEVEL, VALIDATION_STEPS
from legato.training.validation import measured

PixelStage = Literal["image", "temporal"]
LEAST_SIGMA = 0.2
"""At less noise errors do not weigh more: else little of anything else would be learned."""


class PixelUpsampler(nn.Module):
    """Everything that is trained, and what it is trained with.

    Args:
        unet: predicts the x_0 of residual cells stacked over the small clip; no text.
        residual: frames to cells and back.
        words: a vocabulary without words, which stands for no text.
        schedule: of the noise on the cells.
        low_res_schedule: of the noise on the small clip.
        max_level: the strongest noise there.
    """

    def __init__(
        self,
        unet: VideoModel,
        residual: PixelResidual,
        words: WordEncoder,
        *,
        schedule: Schedule,
        low_res_schedule: Schedule,
        max_level: int,
    ) -> None:
        super().__init__()
        self.unet, self.residual, self.words = unet, residual, words
        self.schedule, self.low_res_schedule = schedule, low_res_schedule
        self.max_level = max_level

    def text(self, clips: int) -> Float[Tensor, "B N D"]:
        """Return the embedding of no text for every clip."""
        return self.words.encode("").expand(clips, -1, -1)


class PixelTask:
    """Mean squared error of v by x_0; a batch holds `frames` and `low_res`, both uint8.

    Args:
        system: whose layers learn; the others are frozen.
        stage: image layers, each frame by itself, or temporal layers.
        held_back: batches of the same kind.
    """

    def __init__(self, system: PixelUpsampler, stage: PixelStage, held_back: list[Batch]) -> None:
        self.system, self.held_back = system, held_back
        system.requires_grad_(requires_grad=False)
        system.unet.enabled = stage == "temporal"
        learning = system.unet.temporal if stage == "temporal" else system.unet.spatial
        learning.requires_grad_(requires_grad=True)
        self.module = nn.ModuleDict({stage: learning})

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss at timesteps that are spread over the batch, and levels drawn evenly."""
        clips, total = len(batch["frames"]), self.system.schedule.num_train_timesteps
        shares = (torch.arange(clips) + torch.rand(clips, generator=generator)) / clips
        timesteps = (shares * total).long().clamp(max=total - 1)
        levels = torch.randint(0, self.system.max_level + 1, (clips,), generator=generator)
        loss = self._error(batch, timesteps, levels, generator)
        return loss, {"level": levels.float().mean().item()}

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """Return losses at fixed timesteps, figures of sampled clips, and pictures."""
        figures = {}
        for share in VALIDATED_AT:
            at = round(share * self.system.schedule.num_train_timesteps)
            errors = []
            for number, batch in enumerate(self.held_back):
                clips = len(batch["frames"])
                times, levels = (torch.full((clips,), n) for n in (at, VALIDATION_LEVEL))
                generator = torch.Generator().manual_seed(number)
                errors.append(self._error(batch, times, levels, generator).item())
            figures[f"v_{share:g}"] = sum(errors) / len(errors)
        sampled, grid = measured(self.upscale, self.held_back, None)
        return figures | sampled, grid

    @torch.no_grad()
    def upscale(self, batch: Batch) -> Float[Tensor, "B T 3 H W"]:
        """Return frames in a few steps, at a low noise level."""
        system, generator = self.system, torch.Generator().manual_seed(0)
        low_res = unit_range(batch["low_res"]).to(system.unet.device)
        clips, frames, _, rows, columns = low_res.shape
        noise = torch.randn(low_res.shape, generator=generator).to(low_res.device)
        given = augment(low_res, noise, level=VALIDATION_LEVEL, schedule=system.low_res_schedule)
        start = torch.randn((clips, frames, CHANNELS, rows, columns), generator=generator)
        denoiser = Denoiser(
            network=system.unet,
            conditions=Conditions(
                prompt=system.text(clips), low_res=given, noise_level=VALIDATION_LEVEL
            ),
            windows=[Span.whole(frames)],
        )
        cells = denoise(
            denoiser,
            start.to(low_res.device),
            schedule=system.schedule,
            timesteps=system.schedule.timesteps(VALIDATION_STEPS),
        )
        return system.residual.decode(cells, low_res)

    def _error(
        self,
        batch: Batch,
        timesteps: Int[Tensor, "B"],
        levels: Int[Tensor, "B"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        system, device = self.system, self.system.unet.device
        frames, low_res = (unit_range(batch[name]).to(device) for name in ("frames", "low_res"))
        cells = system.residual.encode(frames, low_res)
        alpha, sigma = system.schedule.scales_at(timesteps, device)
        alpha_n, sigma_n = system.low_res_schedule.scales_at(levels, device)
        noise, low_res_noise = (
            torch.randn(x.shape, generator=generator).to(device) for x in (cells, low_res)
        )
        given = alpha_n * low_res + sigma_n * low_res_noise
        sample = torch.cat((alpha * cells + sigma * noise, given), dim=2)
        predicted = system.unet(
            sample, timesteps.to(device), system.text(len(frames)), levels.to(device)
        )
        error: Tensor = ((predicted.float() - cells) / sigma.clamp_min(LEAST_SIGMA)).square().mean()
        return error
