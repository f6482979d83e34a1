"""Stages of the embedded upscaler: autoencoder, image U-Net, temporal layers, decoder."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from legato.diffusion.schedule import Schedule
from legato.models.inflate import VideoModel
from legato.models.text import WordEncoder
from legato.models.tiny_autoencoder import TinyAutoencoder
from legato.training.batches import unit_range
from legato.training.losses import PixelLoss, warping_loss
from legato.training.trainer import Batch
from legato.training.validation import flat, measured

UpscaleStage = Literal["image", "temporal", "decoder"]
StageName = Literal["autoencoder", UpscaleStage, "refining", "levels"]
NOT_MEASURED = dict.fromkeys(
    ("l1", "spectral", "grain", "lattice", "detail", "lpips", "warping"), float("nan")
)
"""Figures of a step without decoded pictures: the log has the same columns at every step."""
MAX_LEVEL = 250
"""Largest noise level of the small copy that is learned."""


class EmbeddedUpscaler(nn.Module):
    """Everything that is trained: U-Net with temporal layers, autoencoder and words."""

    def __init__(
        self, unet: VideoModel, autoencoder: TinyAutoencoder, words: WordEncoder, schedule: Schedule
    ) -> None:
        super().__init__()
        self.unet, self.autoencoder, self.words, self.schedule = unet, autoencoder, words, schedule

    def predict(
        self,
        noisy: Float[Tensor, "B T 4 h w"],
        low_res: Float[Tensor, "B T 3 h w"],
        timestep: int,
        level: Int[Tensor, "B"],
        words: Int[Tensor, "B N"],
    ) -> Float[Tensor, "B T 4 h w"]:
        """Return the predicted v of noisy latents, given the noised small clip."""
        sample = torch.cat((noisy, low_res), dim=2)
        batch = sample.shape[0]
        times = torch.full((batch,), timestep, device=sample.device)
        v: Tensor = self.unet(sample, times, self.words(words), class_labels=level)
        return v

    def first_estimate(
        self,
        noise: Float[Tensor, "B T 4 h w"],
        given: Float[Tensor, "B T 3 h w"],
        levels: Int[Tensor, "B"],
        words: Int[Tensor, "B N"],
    ) -> Float[Tensor, "B T 4 h w"]:
        """Return x_0 after the first step from pure noise, given the noised small clip."""
        first = self.schedule.timesteps(1)[0]
        alpha, sigma = self.schedule.scales(first)
        start = torch.zeros_like(noise) if self.schedule.is_blind(first) else noise
        return alpha * start - sigma * self.predict(start, given, first, levels, words).float()

    def noised(
        self,
        low_res: Float[Tensor, "B T 3 h w"],
        levels: Int[Tensor, "B"],
        generator: torch.Generator,
    ) -> Float[Tensor, "B T 3 h w"]:
        """Noise the small copy to its level, variance-preserving."""
        alpha, sigma = self.schedule.scales_at(levels, low_res.device)
        return alpha * low_res + sigma * normal(low_res.shape, generator, low_res.device)


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """What a stage of the upscaler weighs."""

    first_step_share: float = 0.9
    """Share of steps at the timestep of the 1-step schedule."""
    v_share: float = 0.02
    """Share of steps with the plain v loss at any timestep; the rest: 2, 4 and 8-step schedules."""
    own_share: float = 0.5
    """Share of the later timesteps of short schedules at which the noise lies on the network's own
    one-step result, as it will when sampling: what is learned there is to mend that result."""
    unconditional_share: float = 0.25
    """Share of steps at which the decoder does without the small clip but for the bicubic skip:
    otherwise it learns to do the U-Net's work alone."""
    latent_weight: float = 0.1
    """Weight of the L1 distance of x_0 to the encoder's latents."""
    warping_weight: float = 1.2
    """Weight of the squared warping error; clips only."""
    clean_level_share: float = 0.85
    """Share of clips whose small copy gets the least noise; others up to `max_level`."""
    max_level: int = MAX_LEVEL
    """Largest noise level of the small copy."""

    def levels(self, count: int, generator: torch.Generator) -> Int[Tensor, "count"]:
        """Draw the noise levels of that many clips."""
        levels = torch.randint(0, self.max_level + 1, (count,), generator=generator)
        clean = torch.rand(count, generator=generator) < self.clean_level_share
        return levels.masked_fill(clean, 0)


class EmbeddedTask(ABC):
    """What all stages know: the system, in which nothing learns yet, and clips to validate with."""

    def __init__(
        self, system: EmbeddedUpscaler, pixel_loss: PixelLoss, held_back: list[Batch]
    ) -> None:
        self.module, self.pixel_loss, self.held_back = system, pixel_loss, held_back
        system.requires_grad_(requires_grad=False)

    @abstractmethod
    def upscale(self, batch: Batch) -> Float[Tensor, "B T 3 H W"]:
        """Return what a held-back batch is judged by."""

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """Figures and pictures of held-back clips."""
        return measured(self.upscale, self.held_back, self.pixel_loss.distance)


class AutoencoderTask(EmbeddedTask):
    """Stage 1: frames to latents and back, the decoder seeing the damaged small copy.

    A little noise on the latents and a pull of their variance to 1 keep them easy to predict.
    """

    def __init__(
        self, system: EmbeddedUpscaler, pixel_loss: PixelLoss, held_back: list[Batch]
    ) -> None:
        super().__init__(system, pixel_loss, held_back)
        system.autoencoder.requires_grad_(requires_grad=True)
        system.autoencoder.decoder.temporal.requires_grad_(requires_grad=False)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Pixel loss of the reconstruction plus the pull on the latents' variance."""
        frames, low_res = unit_range(batch["frames"]), unit_range(batch["low_res"])
        autoencoder = self.module.autoencoder
        latents = autoencoder.encode(frames)
        noise = normal(latents.shape, generator, latents.device)
        decoded = autoencoder.decode(latents + 0.1 * noise, low_res, temporal=False)
        loss, parts = self.pixel_loss(flat(decoded), flat(frames), generator)
        pull = 0.02 * (latents.float().square().mean() - 1).square()
        return loss + pull, {**parts, "pull": pull.item()}

    def upscale(self, batch: Batch) -> Float[Tensor, "B T 3 H W"]:
        """Return plain reconstructions."""
        latents = self.module.autoencoder.encode(unit_range(batch["frames"]))
        low_res = unit_range(batch["low_res"])
        return self.module.autoencoder.decode(latents, low_res, temporal=False)


class UpscaleTask(EmbeddedTask):
    """Stages 2 to 4: predict x_0 so that its decoded picture looks right.

    At the timesteps of short schedules the loss is on decoded pixels (design: pure v-prediction
    needs a hundred times more steps), elsewhere on v.
    """

    def __init__(
        self,
        system: EmbeddedUpscaler,
        stage: UpscaleStage,
        pixel_loss: PixelLoss,
        held_back: list[Batch],
        options: StageOptions,
    ) -> None:
        super().__init__(system, pixel_loss, held_back)
        self.stage, self.options = stage, options
        self.temporal = stage != "image"
        system.unet.enabled = self.temporal
        schedule = system.schedule
        self.short = sorted({t for n in (2, 4, 8) for t in schedule.timesteps(n)})
        self.first = schedule.timesteps(1)[0]
        decoder = system.autoencoder.decoder
        trained: dict[UpscaleStage, list[nn.Module]] = {
            "image": [system.unet.spatial, system.words, decoder],
            "temporal": [system.unet, system.words, decoder],
            "decoder": [decoder],
        }
        for part in trained[stage]:
            part.requires_grad_(requires_grad=True)
        decoder.temporal.requires_grad_(requires_grad=self.temporal)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Pixel, latent and warping loss, or the v loss, at a random timestep."""
        frames, low_res = unit_range(batch["frames"]), unit_range(batch["low_res"])
        with torch.no_grad():
            latents = self.module.autoencoder.encode(frames).float()
        kind = torch.rand((), generator=generator).item()
        timestep = self._timestep(kind, generator)
        levels = self.options.levels(len(frames), generator).to(frames.device)
        given = self.module.noised(low_res, levels, generator)
        noise = normal(latents.shape, generator, latents.device)
        alpha, sigma = self.module.schedule.scales(timestep)
        is_own = torch.rand((), generator=generator).item() < self.options.own_share
        start = latents
        if is_own and kind >= self.options.v_share and timestep != self.first:
            with torch.no_grad():
                start = self.module.first_estimate(noise, given, levels, batch["words"])
        noisy = alpha * start + sigma * noise
        if self.module.schedule.is_blind(timestep):
            noisy = torch.zeros_like(noisy)
        v = self.module.predict(noisy, given, timestep, levels, batch["words"]).float()
        x_0 = alpha * noisy - sigma * v
        latent = self.options.latent_weight * (x_0 - latents).abs().mean()
        if kind < self.options.v_share and self.stage != "decoder":
            loss = 0.25 * (v - (alpha * noise - sigma * latents)).square().mean()
            return loss, {"t": float(timestep), "latent": latent.item(), **NOT_MEASURED}
        conditional = torch.rand((), generator=generator).item() >= self.options.unconditional_share
        decoded = self.module.autoencoder.decode(
            *(x_0, low_res),
            motion=batch["motion"],
            temporal=self.temporal,
            conditional=conditional,
        )
        loss, parts = self.pixel_loss(flat(decoded), flat(frames), generator)
        loss = loss + latent
        figures = {"t": float(timestep), "latent": latent.item(), **NOT_MEASURED, **parts}
        if "flow" in batch:
            moved = warping_loss(decoded, batch["flow"], batch["visible"])
            loss = loss + self.options.warping_weight * moved
            figures["warping"] = 1000 * moved.item() / 4  # as measured: pictures in [0, 1]
        return loss, figures

    @torch.no_grad()
    def upscale(self, batch: Batch) -> Float[Tensor, "B T 3 H W"]:
        """Return what one step makes of pure noise, at the lowest noise level."""
        low_res = unit_range(batch["low_res"])
        generator = torch.Generator().manual_seed(0)
        noise = pure_noise(low_res, generator)
        levels = torch.zeros(len(low_res), dtype=torch.long, device=low_res.device)
        given = self.module.noised(low_res, levels, generator)
        x_0 = self.module.first_estimate(noise, given, levels, batch["words"])
        return self.module.autoencoder.decode(
            x_0, low_res, motion=batch["motion"], temporal=self.temporal
        )

    def _timestep(self, kind: float, generator: torch.Generator) -> int:
        if self.stage == "decoder" or kind > 1 - self.options.first_step_share:
            return self.first
        choice = torch.randint(0, 1 << 20, (), generator=generator).item()
        if kind < self.options.v_share:
            return int(choice) % self.module.schedule.num_train_timesteps
        return self.short[int(choice) % len(self.short)]


def latent_scale(system: EmbeddedUpscaler, batches: list[Batch]) -> float:
    """Return 1 / standard deviation of the encoder's latents: the `scaling_factor` to ship."""
    with torch.no_grad():
        latents = [system.autoencoder.encode(unit_range(b["frames"])) for b in batches]
    return 1 / torch.cat([x.flatten() for x in latents]).std().item()


def pure_noise(
    low_res: Float[Tensor, "B T 3 h w"], generator: torch.Generator
) -> Float[Tensor, "B T 4 h w"]:
    """Draw what the latents of small clips begin from."""
    return normal(low_res[:, :, :1].expand(-1, -1, 4, -1, -1).shape, generator, low_res.device)


def normal(shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw on the CPU, so that every device gets the same numbers."""
    return torch.randn(shape, generator=generator).to(device)
