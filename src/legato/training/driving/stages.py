"""The stages of the driving image model: autoencoder with a patch discriminator, then U-Net."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from legato.evaluation.lpips import PerceptualDistance
from legato.training.batches import unit_range
from legato.training.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    deception_loss,
    discriminator_loss,
)
from legato.training.driving.model import DrivingModel
from legato.training.trainer import Batch


@dataclass(frozen=True, kw_only=True)
class AutoencoderOptions:
    """What the autoencoder's loss weighs; the weight of L1 is 1."""

    perceptual: float = 0.5
    """LPIPS, where weights are named."""
    kl: float = 1e-6
    """Sum over a picture's latents of the divergence from a standard normal distribution."""
    deception: float = 0.3
    """Times the adaptive weight: what the discriminator says."""
    deceive_from: int = 700
    """Look at which the discriminator begins to count: steps of its own training."""
    trains_encoder: bool = True
    """False keeps the latents what they are, for what has learned from them."""


class AutoencoderTask:
    """Stage 1: L1 + LPIPS + KL + patch discriminator on random crops.

    Autoencoder and discriminator learn in the same step: neither's loss reaches the other's
    weights.

    Args:
        model: whose autoencoder learns.
        distance: perceptual distance; None leaves it out.
        held_back: whole frames, uint8.
        options: weights.
    """

    def __init__(
        self,
        model: DrivingModel,
        distance: PerceptualDistance | None,
        held_back: Batch,
        options: AutoencoderOptions,
    ) -> None:
        self.model, self.distance = model, distance
        self.held_back, self.options = held_back, options
        self.discriminator = PatchDiscriminator()
        self.seen = nn.Parameter(torch.zeros(()), requires_grad=False)
        model.vae.requires_grad_(requires_grad=True)
        for part in (model.vae.encoder, model.vae.quant_conv):
            part.requires_grad_(requires_grad=options.trains_encoder)
        self.module = nn.ModuleDict({"vae": model.vae, "discriminator": self.discriminator})
        self.module.register_parameter("seen", self.seen)  # part of the checkpoint

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Sum of the autoencoder's and the discriminator's losses."""
        options, frames = self.options, unit_range(batch["frames"])
        posterior = self.model.vae.encode(frames).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(frames.device)
        made = self.model.vae.decode(posterior.mean + posterior.std * noise).sample.float()
        l1 = (made - frames).abs().mean()
        loss = l1
        figures = {"l1": l1.item(), "lpips": float("nan"), "deceived": float("nan")}
        if self.distance is not None:
            lpips = self.distance(made, frames).mean()
            figures["lpips"] = lpips.item()
            loss = loss + options.perceptual * lpips
        taught = discriminator_loss(self.discriminator, frames, made)
        figures["discriminator"] = taught.item()
        if self.seen >= options.deceive_from:
            deception = deception_loss(self.discriminator, made)
            last = self.model.vae.decoder.conv_out.weight
            weight = adaptive_weight(loss, deception, last)
            loss = loss + options.deception * weight * deception
            figures["deceived"] = deception.item()
        with torch.no_grad():
            self.seen.add_(1)
        divergence = posterior.kl().mean()
        figures["kl"] = divergence.item()
        return loss + options.kl * divergence + taught, figures

    def validate(self) -> tuple[dict[str, float], Float[Tensor, "3 H W"]]:
        """Reconstructions of held-back frames, in the grid above the truth."""
        frames = unit_range(self.held_back["frames"])
        device = next(self.module.parameters()).device
        made = torch.cat(
            [self._reconstruct(part.to(device)) for part in torch.split(frames, 16)]
        ).cpu()
        error = ((made - frames) / 2).square().mean(dim=(1, 2, 3))
        figures = {"psnr": float((-10 * error.log10()).mean())}
        if self.distance is not None:
            figures["lpips"] = self.distance(made[:64], frames[:64]).mean().item()
        return figures, picture_grid(torch.stack([made[:12], frames[:12]], dim=1))

    def _reconstruct(self, frames: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        made: Tensor = self.model.decode(self.model.encode(frames)).float().clamp(-1, 1)
        # as it is stored: a picture of 8 bits
        return ((made + 1) * 127.5).round() / 127.5 - 1


class ImageTask:
    """Stage 2: the v loss at uniform timesteps, with labels and boxes dropped now and then.

    Args:
        model: whose U-Net, words and layout learn; the autoencoder is frozen.
        held_back: latents, words and layout.
    """

    def __init__(self, model: DrivingModel, held_back: Batch) -> None:
        self.model, self.held_back = model, held_back
        model.requires_grad_(requires_grad=False)
        learning = {"unet": model.unet, "words": model.words, "layout": model.layout}
        self.module = nn.ModuleDict(learning).requires_grad_(requires_grad=True)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error of v = alpha eps - sigma z."""
        latents = batch["latents"]
        count = len(latents)
        steps = self.model.schedule.num_train_timesteps
        # one timestep from each of `count` equal parts of the schedule: less noise in the loss
        draw = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        times = (draw * steps).long().clamp(max=steps - 1)
        loss = self._error(latents, times, batch, generator)
        return loss, {"v": loss.item()}

    def validate(self) -> tuple[dict[str, float], Float[Tensor, "3 H W"]]:
        """The v loss of held-back latents, and samples: by labels, by labels and boxes, truth."""
        latents, words = self.held_back["latents"], self.held_back["words"]
        times = torch.linspace(20, 999, len(latents)).long()
        error = self._error(latents, times, self.held_back, torch.Generator().manual_seed(5))
        shown = slice(0, 8)
        noise = torch.randn(latents[shown].shape, generator=torch.Generator().manual_seed(6))
        layout = self.held_back["layout"][shown]
        device = next(self.module.parameters()).device
        rows = []
        for maps in (torch.zeros_like(layout), layout):
            made = self.model.sample(noise.to(device), words[shown].to(device), maps.to(device))
            rows.append(self.model.decode(made).float().cpu())
        rows.append(self.model.decode(latents[shown].to(device)).float().cpu())
        return {"v": error.item()}, picture_grid(torch.stack(rows, dim=1))

    def _error(
        self, latents: Tensor, times: Tensor, batch: Batch, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        device = next(self.module.parameters()).device
        ab = self.model.schedule.alphas_cumprod[times][:, None, None, None].to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        latents = latents.to(device)
        alpha, sigma = ab.sqrt(), (1 - ab).sqrt()
        v = self.model.predict(
            alpha * latents + sigma * noise,
            times.to(device),
            batch["words"].to(device),
            batch["layout"].to(device),
        )
        return F.mse_loss(v.float(), alpha * noise - sigma * latents)


def picture_grid(columns: Float[Tensor, "K R 3 H W"]) -> Float[Tensor, "3 H2 W2"]:
    """Return columns of pictures side by side, in two bands where there are more than four."""
    bands = torch.split(columns, (len(columns) + 1) // 2 if len(columns) > 4 else len(columns))
    return torch.cat(
        [torch.cat([torch.cat(list(column), dim=1) for column in band], dim=2) for band in bands],
        dim=1,
    )
