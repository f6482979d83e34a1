"""The stages of an upscaler at full size: temporal layers of its U-Net, then a temporal decoder.

As Upscale-A-Video was trained (Zhou et al. 2024, arXiv:2312.06640, section 3): the image layers of
the U-Net stay frozen, the temporal layers learn to predict v (or what else the model predicts); the
decoder then learns from latents that this U-Net gives.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from legato.diffusion.augmentation import augment
from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.prediction import prediction_of
from legato.diffusion.schedule import Schedule
from legato.diffusion.spans import Span
from legato.errors import InputError, ModelError
from legato.evaluation.datasets import SCALE
from legato.evaluation.lpips import PerceptualDistance
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.inflate import VideoModel, inflate
from legato.models.upscaler import UpscalerModel
from legato.training.batches import unit_range
from legato.training.discriminator import (
    PatchDiscriminator,
    adaptive_weight,
    deception_loss,
    discriminator_loss,
)
from legato.training.losses import PixelLoss, PixelLossWeights
from legato.training.trainer import Batch, moved
from legato.training.validation import flat, measured

MAX_NOISE_LEVEL = 350
"""The strongest noise on the small clip that is learned, as released."""
LayersName = Literal["upscale_a_video", "video_ldm"]


@dataclass(frozen=True, kw_only=True)
class DecoderStageOptions:
    """What the decoder learns from; the paper gives none of the numbers, these are ours."""

    latent_steps: int = 20
    """Denoising steps that give the latents, without guidance."""
    weights: PixelLossWeights = field(
        default_factory=lambda: PixelLossWeights.plain(perceptual=1.0)
    )
    """Of L1 and LPIPS."""
    adversarial_weight: float = 0.5
    """Of having been recognised, beside the adaptive weight."""
    adversarial_start: int = 5000
    """First step with the discriminator."""
    adversary_width: int = 64
    """Channels of the discriminator's first layer."""


def with_temporal_layers(
    model: UpscalerModel, *, layers: LayersName | None = None, checkpointing: bool
) -> UpscalerModel:
    """Return the model with fresh temporal layers where it has none, in U-Net and decoder.

    The fresh weights come from torch's current seed. The image models are kept, not copied.

    Args:
        model: loaded; not to be used afterwards.
        layers: family of those of the U-Net; None: what it has, or Upscale-A-Video's.
        checkpointing: whether activations are computed twice instead of being kept.

    Raises:
        InputError: it has layers of another family.
        ModelError: its autoencoder is not one of diffusers, or does not enlarge by four.
    """
    unet, autoencoder = model.unet, model.autoencoder
    if not isinstance(autoencoder, TemporalDecoder):
        raise ModelError(
            f"model {model.name!r}",
            why="its autoencoder is the embedded model's, which has a recipe of its own",
            fix="use an upscaler with an AutoencoderKL, or legato train embedded",
        )
    if model.scale != SCALE:
        raise ModelError(
            f"model {model.name!r} enlarges by {model.scale}",
            why=f"the damaged clips of training are reduced by {SCALE}",
            fix="use an x4 upscaler",
        )
    if not unet.sites:
        unet = inflate(unet.detach(), layers or "upscale_a_video").to(unet.device)
    if layers not in (None, unet.family):
        raise InputError(
            f"layers={layers}",
            why=f"model {model.name!r} has layers of the family {unet.family}",
            fix="leave it out, or name an upscaler without temporal layers",
        )
    if not autoencoder.sites:
        image_decoder: Any = autoencoder.detach()
        options = TemporalDecoderOptions(
            conv="volume",
            condition_channels=image_decoder.config.block_out_channels[0],
            norm_stats="clip",
        )
        autoencoder = TemporalDecoder(image_decoder, options).to(autoencoder.device)
    unet.set_gradient_checkpointing(checkpointing)
    autoencoder.set_gradient_checkpointing(checkpointing)
    return replace(model, unet=unet, autoencoder=autoencoder)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Everything random about the clips of a batch; it follows from their numbers alone."""

    timesteps: Int[Tensor, "B"]
    levels: Int[Tensor, "B"]
    """Of the noise on the small clip."""
    noise: Float[Tensor, "B T C h w"]
    """For the latents."""
    low_res_noise: Float[Tensor, "B T 3 h w"]

    @classmethod
    def of(
        cls, numbers: Int[Tensor, "B"], shape: tuple[int, ...], *, seed: int, num_timesteps: int
    ) -> "Draw":
        """Draw on the CPU, and put the result where the numbers are.

        Args:
            numbers: of the samples.
            shape: of a clip's latents, (T, C, h, w).
            seed: of the stage.
            num_timesteps: they are drawn evenly from as many.
        """
        rows: list[tuple[Tensor, ...]] = []
        for number in numbers.tolist():
            own = seed * 7_368_787 + number  # of a seed only 32 bits count
            generator = torch.Generator().manual_seed(own)
            rows.append(
                (
                    torch.randint(num_timesteps, (), generator=generator),
                    torch.randint(MAX_NOISE_LEVEL + 1, (), generator=generator),
                    torch.randn(shape, generator=generator),
                    torch.randn((shape[0], 3, *shape[2:]), generator=generator),
                )
            )
        values = [torch.stack(column).to(numbers.device) for column in zip(*rows, strict=True)]
        return cls(timesteps=values[0], levels=values[1], noise=values[2], low_res_noise=values[3])


class UpscalerStage:
    """What both stages know: the model, its schedules, and clips to validate with.

    Args:
        model: with temporal layers, on its device; everything in it is frozen.
        held_back: batches as `ShardSamples` makes them, with flow for the warping error.
        distance: LPIPS, computed where the model is; None leaves it out.
        seed: of everything random.
    """

    def __init__(
        self,
        model: UpscalerModel,
        held_back: list[Batch],
        distance: PerceptualDistance | None,
        seed: int,
    ) -> None:
        assert isinstance(model.autoencoder, TemporalDecoder)
        self.model, self.held_back, self.distance, self.seed = model, held_back, distance, seed
        self.unet: VideoModel = model.unet
        self.decoder: TemporalDecoder = model.autoencoder
        self.schedule = Schedule.from_config(model.schedule)
        self.low_res_schedule = Schedule.from_config(model.low_res_schedule)
        self.unet.requires_grad_(False)
        self.decoder.requires_grad_(False)

    def draw(self, batch: Batch) -> Draw:
        """Return what is random about a batch of clips."""
        _, frames, _, rows, cols = batch["low_res"].shape
        return Draw.of(
            batch["number"],
            (frames, self.decoder.spatial.config.latent_channels, rows, cols),
            seed=self.seed,
            num_timesteps=self.schedule.num_train_timesteps,
        )

    @torch.no_grad()
    def text(self, batch: Batch) -> Float[Tensor, "B N D"]:
        """Return the embedded captions; of a clip without one, the embedded empty prompt.

        Never in reduced precision: the model keeps them, and whoever asks later gets the same.
        """
        with torch.autocast(self.unet.device.type, enabled=False):
            return torch.cat([self.model.encode_prompt(caption) for caption in batch["caption"]])

    @torch.no_grad()
    def sample(self, batch: Batch, *, steps: int, level: int) -> Float[Tensor, "B T C h w"]:
        """Return the latents that the U-Net finds for a batch, without guidance."""
        low_res, draw = unit_range(batch["low_res"]), self.draw(batch)
        given = augment(low_res, draw.low_res_noise, level=level, schedule=self.low_res_schedule)
        frames = low_res.shape[1]
        denoiser = Denoiser(
            network=self.unet,
            conditions=Conditions(prompt=self.text(batch), low_res=given, noise_level=level),
            windows=[Span.whole(frames)],
        )
        timesteps = self.schedule.timesteps(steps)
        return denoise(denoiser, draw.noise, schedule=self.schedule, timesteps=timesteps)

    @torch.no_grad()
    def upscale(self, batch: Batch) -> Float[Tensor, "B T 3 H W"]:
        """Return frames in a few steps, at a low noise level."""
        here = moved(batch, self.unet.device)
        return self.decoder.decode(
            self.sample(here, steps=VALIDATION_STEPS, level=VALIDATION_LEVEL),
            unit_range(here["low_res"]),
        )

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """Figures and pictures of held-back clips."""
        return measured(self.upscale, self.held_back, self.distance)


VALIDATION_STEPS, VALIDATION_LEVEL = 8, 20


class UnetStage(UpscalerStage):
    """Temporal layers of the U-Net: mean squared error of the prediction.

    z = alpha x_0 + sigma eps at a random timestep; the small clip carries noise of a random level,
    which is the class label.
    """

    def __init__(
        self,
        model: UpscalerModel,
        held_back: list[Batch],
        distance: PerceptualDistance | None,
        seed: int,
    ) -> None:
        super().__init__(model, held_back, distance, seed)
        self.module = self.unet
        self.unet.temporal.requires_grad_(True)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss at timesteps and levels that follow from the clips' numbers."""
        draw, low_res = self.draw(batch), unit_range(batch["low_res"])
        with torch.no_grad(), torch.autocast(low_res.device.type, enabled=False):
            latents = self.decoder.encode(unit_range(batch["frames"]))
        scales = alpha, sigma = self.schedule.scales_at(draw.timesteps, low_res.device)
        alpha_n, sigma_n = self.low_res_schedule.scales_at(draw.levels, low_res.device)
        given = alpha_n * low_res + sigma_n * draw.low_res_noise
        sample = torch.cat((alpha * latents + sigma * draw.noise, given), dim=2)
        predicted = self.unet(sample, draw.timesteps, self.text(batch), draw.levels).float()
        wanted = prediction_of(
            latents, draw.noise, scales=scales, prediction_type=self.schedule.prediction_type
        )
        loss = (predicted - wanted).square().mean()
        return loss, {"level": draw.levels.float().mean().item()}

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Tensor]:
        """Figures of results, and the loss, always at the same timesteps, levels and noise."""
        unused = torch.Generator()
        device = self.unet.device
        losses = [self.loss(moved(b, device), unused)[0].item() for b in self.held_back]
        figures, grid = super().validate()
        return {"loss": sum(losses) / len(losses), **figures}, grid


class DecoderStage(UpscalerStage):
    """The decoder, against a discriminator that sees the clip: L1, LPIPS and hinge loss.

    Trained are the image decoder, its temporal layers and what the small clip tells it; the encoder
    and the U-Net stay.
    """

    def __init__(
        self,
        model: UpscalerModel,
        held_back: list[Batch],
        distance: PerceptualDistance | None,
        seed: int,
        *,
        batch_size: int,
        options: DecoderStageOptions,
    ) -> None:
        super().__init__(model, held_back, distance, seed)
        self.batch_size, self.options = batch_size, options
        self.pixel_loss = PixelLoss(options.weights, distance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the same at the start of every process that goes on
            adversary = PatchDiscriminator(3, width=options.adversary_width, num_layers=3)
            self.adversary = adversary.to(self.unet.device)
        self.module = nn.ModuleDict({"decoder": self.decoder, "adversary": self.adversary})
        image_decoder: nn.Module = self.decoder.spatial.decoder
        image_decoder.requires_grad_(True)
        self.decoder.temporal.requires_grad_(True)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return what decoder and discriminator minimise, added up; see `AdversarialTask`."""
        frames, low_res = unit_range(batch["frames"]), unit_range(batch["low_res"])
        level = int(self.draw(batch).levels[0])
        latents = self.sample(batch, steps=self.options.latent_steps, level=level)
        decoded = self.decoder.decode(latents, low_res).float()
        loss, figures = self.pixel_loss(flat(decoded), flat(frames), generator)
        figures |= {"adversarial": 0.0, "adversary": 0.0, "weight": 0.0}
        if int(batch["number"][0]) // self.batch_size < self.options.adversarial_start:
            return loss, figures
        made = decoded.transpose(1, 2)
        fooling = deception_loss(self.adversary, made).float()
        weight = adaptive_weight(loss, fooling, self.decoder.spatial.decoder.conv_out.weight)
        recognising = discriminator_loss(self.adversary, frames.transpose(1, 2), made).float()
        figures |= {
            "adversarial": fooling.item(),
            "adversary": recognising.item(),
            "weight": weight.item(),
        }
        return loss + self.options.adversarial_weight * weight * fooling + recognising, figures
