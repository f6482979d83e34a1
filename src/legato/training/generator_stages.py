"""The stages that teach a generating model about time: key frames, frames between, decoder.

Blattmann et al. 2023, arXiv:2304.08818: eq. 2 with the image model frozen, eq. 5 for prediction;
the interpolation trains everything; the decoder meets a discriminator of clips only.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from legato.diffusion.context import (
    BETWEEN,
    ContextOptions,
    context_condition,
    every_fourth,
    first_frames,
    sample_counts,
)
from legato.diffusion.noise import INDEPENDENT, NoisePrior
from legato.diffusion.prediction import prediction_of, x0_from
from legato.diffusion.schedule import Schedule
from legato.errors import InputError
from legato.models.decoder import TemporalDecoder
from legato.models.inflate import VideoModel
from legato.models.micro_conditioning import ClipConditions
from legato.training.batches import unit_range
from legato.training.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    deception_loss,
    discriminator_loss,
)
from legato.training.losses import PixelLoss, flicker_loss
from legato.training.trainer import Batch

TOLD = ("frame_rate", "stage", "image_only")
"""Of a batch, what temporal layers are told."""
VALIDATED_AT = (0.2, 0.5, 0.8)
"""Shares of the training timesteps at which held-back losses are measured."""


class VideoLdm(nn.Module):
    """Everything that a denoising stage computes with.

    Args:
        unet: the stage's image model with its temporal layers.
        autoencoder: frames to latents, and back with the temporal decoder.
        words: embeds the words of a batch: token numbers, or prompts by `TrainableText`.
        schedule: of the noise.
    """

    def __init__(
        self, unet: VideoModel, autoencoder: TemporalDecoder, words: nn.Module, schedule: Schedule
    ) -> None:
        super().__init__()
        self.unet, self.autoencoder, self.words, self.schedule = unet, autoencoder, words, schedule

    @torch.no_grad()
    def latents(self, batch: Batch) -> Float[Tensor, "B T C h w"]:
        """Return a batch's latents: as it holds them, or of its frames."""
        if "latents" in batch:
            ready: Tensor = batch["latents"].float()
            return ready
        return encoded(self.autoencoder, batch)


@dataclass(frozen=True, kw_only=True)
class DenoisingOptions:
    """How a denoising stage is taught."""

    stage: Literal["key_frames", "interpolation"] = "key_frames"
    """Frames that follow given ones, or frames between given ones (clips of 4 n + 1 frames)."""
    context: ContextOptions = field(default_factory=ContextOptions)
    """How many first frames are given to key frames."""
    prior: NoisePrior = INDEPENDENT
    """How the noise of neighbouring frames hangs together; sample with the same."""
    max_context_noise: int = 0
    """Largest noise on the given frames, as a training timestep; drawn evenly from 0."""
    image_share: float = 0.0
    """Share of clips that are learned as single images, to which temporal layers add nothing: for
    an image model that learns too and is not to forget them."""
    trains_spatial: bool = False
    """Whether the image model learns too; the interpolation's does in the paper."""

    def __post_init__(self) -> None:
        if not 0 <= self.image_share < 1:
            raise InputError(
                f"image_share={self.image_share:g}",
                why="it is a share of clips, and some must teach motion",
                fix="use 0 up to less than 1",
            )
        if self.image_share and not self.trains_spatial:
            raise InputError(
                f"image_share={self.image_share:g} with a frozen image model",
                why="temporal layers learn nothing from single images",
                fix="leave it at 0, or use trains_spatial=True",
            )


class DenoisingTask:
    """Predict noise, velocity or clean latents of a clip at any timestep, some frames given.

    Every clip has one timestep, and noise by the prior on its frames; the loss counts all frames.
    A batch holds `frames` (uint8) or `latents`, `words`, and where the layers are told of them
    `frame_rate` and `stage`. The system and held-back batches lie where it is to be computed.

    Args:
        system: what it computes with.
        held_back: batches of the same kind.
        options: what is given and what learns.
        learning: a part of the temporal layers, or beside them, that learns instead of all.
    """

    def __init__(
        self,
        system: VideoLdm,
        held_back: list[Batch],
        options: DenoisingOptions,
        *,
        learning: nn.Module | None = None,
    ) -> None:
        self.system, self.held_back, self.options = system, held_back, options
        system.requires_grad_(requires_grad=False)
        learning = learning or system.unet.temporal
        learning.requires_grad_(requires_grad=True)
        system.unet.spatial.requires_grad_(requires_grad=options.trains_spatial)
        self.module = nn.ModuleDict({"temporal": learning})
        if options.trains_spatial:
            self.module["spatial"] = system.unet.spatial

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the mean squared error of the prediction."""
        latents = self.system.latents(batch)
        clips = len(latents)
        total = self.system.schedule.num_train_timesteps
        timesteps = torch.randint(0, total, (clips,), generator=generator)
        is_given = self._given(clips, latents.shape[1], generator)
        batch, is_given = self._with_images(batch, is_given, generator)
        predicted, target, _ = self._predict(batch, latents, timesteps, is_given, generator)
        loss = (predicted.float() - target).square().mean()
        return loss, {"t": float(timesteps[0]), "given": float(is_given.sum() / clips)}

    def _with_images(
        self, batch: Batch, is_given: Bool[Tensor, "B T"], generator: torch.Generator
    ) -> tuple[Batch, Bool[Tensor, "B T"]]:
        """Make some clips a batch of images: temporal layers add nothing, no frame is given.

        Joint training of images and videos (Ho et al. 2022, arXiv:2204.03458, section 3.1), with
        frames of the videos themselves (Molad et al. 2023, Dreamix, arXiv:2302.01329).
        """
        if not self.options.image_share:
            return batch, is_given
        is_image = torch.rand(len(is_given), generator=generator) < self.options.image_share
        image_only = is_image[:, None].expand_as(is_given)
        return batch | {"image_only": image_only}, is_given & ~image_only

    def validate(self) -> tuple[dict[str, float], Float[Tensor, "3 H W"]]:
        """Return losses without and with given frames, and estimates beside the truth."""
        rows: list[Tensor] = []
        losses: dict[str, list[float]] = {"alone": [], "given": []}
        for batch in self.held_back:
            latents = self.system.latents(batch)
            for name, is_given in self._cases(latents):
                for share in VALIDATED_AT:
                    at = round(share * self.system.schedule.num_train_timesteps)
                    timesteps = torch.full((len(latents),), at)
                    predicted, target, x_0 = self._predict(
                        batch, latents, timesteps, is_given, torch.Generator().manual_seed(at)
                    )
                    losses[name].append((predicted.float() - target).square().mean().item())
            pictures = [self.system.autoencoder.decode(z[:1]) for z in (x_0, latents)]
            strips = [rearrange(p[0], "t c h w -> c h (t w)") for p in pictures]
            rows.append(torch.cat(strips, dim=1).float())
        return {k: sum(v) / len(v) for k, v in losses.items() if v}, torch.cat(rows[:4], dim=1)

    def _cases(self, latents: Tensor) -> list[tuple[str, Bool[Tensor, "B T"]]]:
        clips, num_frames = latents.shape[:2]
        if self.options.stage == "interpolation":
            return [("given", every_fourth(num_frames).expand(clips, -1))]
        counts = {"alone": 0} | ({"given": 2} if self.system.unet.context_channels else {})
        return [
            (name, first_frames(torch.full((clips,), count), num_frames))
            for name, count in counts.items()
        ]

    def _given(
        self, clips: int, num_frames: int, generator: torch.Generator
    ) -> Bool[Tensor, "B T"]:
        if self.options.stage == "interpolation":
            assert num_frames % BETWEEN == 1
            return every_fourth(num_frames).expand(clips, -1)
        counts = torch.zeros(clips, dtype=torch.long)
        if self.system.unet.context_channels:
            counts = sample_counts(clips, self.options.context, generator)
        return first_frames(counts, num_frames)

    def _predict(
        self,
        batch: Batch,
        latents: Float[Tensor, "B T C h w"],
        timesteps: Int[Tensor, "B"],
        is_given: Bool[Tensor, "B T"],
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the prediction, what it should be, and the estimate of x_0."""
        schedule, device = self.system.schedule, latents.device
        own, shared = (
            torch.randn(shape, generator=generator)
            for shape in (latents.shape, latents[:, :1].shape)
        )
        noise = self.options.prior.join(own, shared).to(device)
        alpha, sigma = schedule.scales_at(timesteps, device)
        noisy = alpha * latents + sigma * noise
        target = prediction_of(
            latents, noise, scales=(alpha, sigma), prediction_type=schedule.prediction_type
        )
        predicted: Tensor = self.system.unet(
            noisy,
            timesteps.to(device),
            self.system.words(batch["words"]),
            conditions=self._conditions(batch, latents, is_given.to(device), generator),
        )
        estimates = [
            x0_from(v, z, scales=schedule.scales(int(t)), prediction_type=schedule.prediction_type)
            for v, z, t in zip(predicted.detach().float(), noisy, timesteps, strict=True)
        ]
        return predicted, target, torch.stack(estimates)

    def _conditions(
        self,
        batch: Batch,
        latents: Float[Tensor, "B T C h w"],
        is_given: Bool[Tensor, "B T"],
        generator: torch.Generator,
    ) -> ClipConditions:
        told = {name: batch[name].to(latents.device) for name in TOLD if name in batch}
        if not self.system.unet.context_channels:
            return ClipConditions(**told)
        levels = torch.zeros(len(latents), dtype=torch.long)
        if self.options.max_context_noise:
            most = self.options.max_context_noise + 1
            levels = torch.randint(0, most, (len(latents),), generator=generator)
            alpha, sigma = self.system.schedule.scales_at(levels, latents.device)
            noise = torch.randn(latents.shape, generator=generator).to(latents.device)
            is_noised = (levels > 0).to(latents.device).view(-1, 1, 1, 1, 1)
            latents = torch.where(is_noised, alpha * latents + sigma * noise, latents)
        given = context_condition(latents, is_given)
        return ClipConditions(given=given, noise_level=levels.to(latents.device), **told)


@dataclass(frozen=True, kw_only=True)
class DecoderOptions:
    """How the temporal decoder is taught."""

    adversarial_weight: float = 0.5
    """Weight of the discriminator's opinion, beside the adaptive one; 0: there is none."""
    adversarial_start: int = 1000
    """Steps before it counts; the discriminator learns from the first one."""
    trains_spatial: bool = True
    """Whether the whole decoder learns, or its temporal layers alone."""
    latent_noise: float = 0.0
    """Largest standard deviation of noise on a clip's latents, drawn evenly from 0. Generated
    latents are not exact, each frame's in its own way: that is what flickers."""
    flicker_weight: float = 0.0
    """Weight of `losses.flicker_loss`."""


class JudgedDecoder(nn.Module):
    """An autoencoder, the discriminator that its decoder meets, and for how many steps it did."""

    steps: Tensor

    def __init__(self, autoencoder: TemporalDecoder) -> None:
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, PatchDiscriminator(3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))


class DecoderTask:
    """Frames from latents of an encoder that stays frozen, judged as pictures and as clips.

    The discriminator sees clips only: one of single frames harms the motion (Blattmann et al. 2023,
    arXiv:2304.08818, appendix). A batch holds `frames` (uint8).
    """

    def __init__(
        self,
        autoencoder: TemporalDecoder,
        pixel_loss: PixelLoss,
        held_back: list[Batch],
        options: DecoderOptions,
    ) -> None:
        self.autoencoder, self.pixel_loss = autoencoder, pixel_loss
        self.held_back, self.options = held_back, options
        self.module = JudgedDecoder(autoencoder)
        self.discriminator = self.module.discriminator
        autoencoder.requires_grad_(requires_grad=False)
        autoencoder.temporal.requires_grad_(requires_grad=True)
        autoencoder.spatial.decoder.requires_grad_(requires_grad=options.trains_spatial)
        final = "decoder/conv_out"
        last: Any = (
            autoencoder.temporal[final].conv
            if final in autoencoder.temporal
            else autoencoder.spatial.decoder.conv_out
        )
        self.last_layer: Tensor = last.weight

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return pixel loss, and the adversarial losses of decoder and discriminator."""
        frames = unit_range(batch["frames"])
        share = torch.rand(len(frames), generator=generator)
        decoded = self.autoencoder.decode(self._latents(batch, share, generator))
        fold = "b t c h w -> (b t) c h w"
        loss, parts = self.pixel_loss(rearrange(decoded, fold), rearrange(frames, fold), generator)
        if self.options.flicker_weight:
            flicker = flicker_loss(decoded, frames)
            loss = loss + self.options.flicker_weight * flicker
            parts["flicker"] = flicker.item()
        if self.options.adversarial_weight:
            judged, said = self.judged(loss, decoded, frames)
            loss, parts = loss + judged, parts | said
        self.module.steps += 1
        return loss, parts

    def judged(
        self,
        loss: Float[Tensor, ""],
        decoded: Float[Tensor, "B T 3 H W"],
        frames: Float[Tensor, "B T 3 H W"],
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return what the judgement of decoded clips adds to their loss, and figures."""
        real, made = (rearrange(x, "b t c h w -> b c t h w") for x in (frames, decoded))
        return self.opinion(self.discriminator, loss, real, made)

    def opinion(
        self,
        discriminator: PatchDiscriminator,
        loss: Float[Tensor, ""],
        real: Float[Tensor, "B 3 *size"],
        made: Float[Tensor, "B 3 *size"],
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return what a discriminator, with its own loss, adds to that of what was made."""
        deception = deception_loss(discriminator, made)
        weight = adaptive_weight(loss, deception, self.last_layer)
        learned = discriminator_loss(discriminator, real, made)
        counts = self.options.adversarial_weight * bool(
            self.module.steps >= self.options.adversarial_start
        )
        figures = {"opinion": deception.item(), "judged": learned.item()}
        return counts * weight * deception + learned, figures

    def validate(self) -> tuple[dict[str, float], Float[Tensor, "3 H W"]]:
        """Return errors of frames, and their flicker, with the layers and without.

        Latents are under half of the largest noise.
        """
        figures: dict[str, list[float]] = {}
        rows: list[Tensor] = []
        autoencoder = self.autoencoder
        for batch in self.held_back:
            frames = unit_range(batch["frames"])
            half = torch.full((len(frames),), 0.5)
            latents = self._latents(batch, half, torch.Generator().manual_seed(5))
            decoded = autoencoder.decode(latents)
            with autoencoder.disabled():
                alone = autoencoder.decode(latents)
            for name, made in (("", decoded), ("_frame_by_frame", alone)):
                error = (made - frames).abs().mean()
                figures.setdefault(f"l1{name}", []).append(error.item())
                figures.setdefault(f"flicker{name}", []).append(flicker_loss(made, frames).item())
            rows.append(torch.cat([decoded[0, 0], frames[0, 0]], dim=2))
        return {k: sum(v) / len(v) for k, v in figures.items()}, torch.cat(rows[:8], dim=1)

    def _latents(
        self, batch: Batch, share: Float[Tensor, "B"], generator: torch.Generator
    ) -> Float[Tensor, "B T C h w"]:
        """Return a batch's latents under a share of the largest noise."""
        latents = encoded(self.autoencoder, batch)
        noise = torch.randn(latents.shape, generator=generator)
        deviation = self.options.latent_noise * share.view(-1, 1, 1, 1, 1)
        return latents + (deviation * noise).to(latents.device)


@torch.no_grad()
def encoded(autoencoder: TemporalDecoder, batch: Batch) -> Float[Tensor, "B T C h w"]:
    """Return the scaled latents of a batch's frames."""
    return autoencoder.encode(unit_range(batch["frames"])).float()
