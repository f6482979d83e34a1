"""The generating model of driving scenes: image model, and the parts that know about time."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from legato.diffusion.noise import INDEPENDENT, NoisePrior
from legato.diffusion.prediction import ddim_step, eps_from, x0_from
from legato.diffusion.schedule import Schedule
from legato.models.box_layout import BoxLayout
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.inflate import VideoModel, inflate
from legato.models.text import WordEncoder
from legato.training.driving.labels import GROUPS, VOCABULARY
from legato.training.driving.render import SIZE

LATENT_CHANNELS, FACTOR = 4, 4
TEXT_WIDTH = 128
AUTOENCODER: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": LATENT_CHANNELS,
    "block_out_channels": (32, 64, 96),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "sample_size": SIZE[1],
}
UNET: dict[str, Any] = {
    "sample_size": [n // FACTOR for n in SIZE],
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "block_out_channels": (64, 96, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": (2, 3, 4),
    "norm_num_groups": 32,
}
KEY_FRAMES: dict[str, Any] = {"context_channels": LATENT_CHANNELS + 1, "initial_mix": 0.0}
BETWEEN: dict[str, Any] = {
    "context_channels": LATENT_CHANNELS + 1,
    "initial_mix": 0.0,
    "sees_stage": True,
    "attention": False,
}
"""Leaner: five frames are within reach of the convolutions."""
DECODER = TemporalDecoderOptions()
SCHEDULE = Schedule(
    beta_start=0.00085,
    beta_end=0.012,
    timestep_spacing="trailing",
    steps_offset=0,
    set_alpha_to_one=True,
    rescale_betas_zero_snr=True,
)
"""Stable Diffusion's, moved to end without signal: samples begin from pure noise."""


class DrivingModel(nn.Module):
    """Everything that the image stages train.

    Args:
        unet: of `UNET`'s kind.
        vae: frames to latents and back.
        words: the labels.
        layout: the boxes.
        schedule: of the noise.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        words: WordEncoder,
        layout: BoxLayout,
        schedule: Schedule = SCHEDULE,
    ) -> None:
        super().__init__()
        self.unet, self.vae, self.words, self.layout = unet, vae, words, layout
        self.schedule = schedule

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def predict(
        self,
        noisy: Float[Tensor, "B 4 h w"],
        timesteps: Int[Tensor, "B"],
        words: Int[Tensor, "B N"],
        layout: Float[Tensor, "B 3 h w"],
    ) -> Float[Tensor, "B 4 h w"]:
        """Return the predicted v of noisy latents."""
        with self.layout.given(self.unet, layout):
            v: Tensor = self.unet(noisy, timesteps, self.words(words)).sample
        return v

    def encode(self, frames: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 4 h w"]:
        """Return the mean latents, scaled, of frames in [-1, 1]."""
        mean: Tensor = self.vae.encode(frames).latent_dist.mean
        latents: Tensor = mean * self.vae.config.scaling_factor
        return latents

    def decode(self, latents: Float[Tensor, "B 4 h w"]) -> Float[Tensor, "B 3 H W"]:
        """Return the frames of scaled latents."""
        frames: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return frames

    @torch.no_grad()
    def sample(
        self,
        noise: Float[Tensor, "B 4 h w"],
        words: Int[Tensor, "B N"],
        layout: Float[Tensor, "B 3 h w"],
        *,
        num_inference_steps: int = 20,
        guidance_scale: float = 2.0,
    ) -> Tensor:
        """Return latents `B 4 h w` by DDIM, guided away from no words (Ho and Salimans 2022,
        arXiv:2207.12598, eq. 6); the layout counts in both predictions."""
        z, nothing = noise, torch.zeros_like(words)
        times = self.schedule.timesteps(num_inference_steps)
        for now, following in zip(times, [*times[1:], None], strict=True):
            both = self.predict(
                torch.cat((z, z)),
                torch.full((2 * len(z),), now, device=z.device),
                torch.cat((nothing, words)),
                torch.cat((layout, layout)),
            )
            free, told = both.chunk(2)
            v = free + guidance_scale * (told - free)
            scales = self.schedule.scales(now)
            x0 = x0_from(v, z, scales=scales, prediction_type="v_prediction")
            eps = eps_from(v, z, scales=scales, prediction_type="v_prediction")
            z = ddim_step(x0, eps, scales=self.schedule.scales(following))
        return z


@dataclass(frozen=True, kw_only=True)
class Told:
    """What layers for time are told of a clip, by the names of their own options."""

    sees_frame_rate: bool = False
    """Those of key frames and of frames between."""
    sees_noise_level: bool = False
    """Those of key frames: the noise on given ones."""


NOTHING = Told()


@dataclass(kw_only=True)
class DrivingSystem:
    """Everything that the recipe trains; what no stage has made yet is None."""

    image: DrivingModel
    key_frames: VideoModel | None = None
    """The image model's U-Net with the layers of key frames."""
    interpolation: VideoModel | None = None
    """A U-Net of its own with the layers of the frames between."""
    decoder: TemporalDecoder | None = None
    """The image model's autoencoder with its temporal layers."""
    prior: NoisePrior = INDEPENDENT
    """Of the noise that key frames learned last; they are sampled with the same."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the pictures that it is made for."""
        shape: Any = self.image.unet.config
        rows, columns = shape.sample_size
        return FACTOR * rows, FACTOR * columns

    def resize_(self, size: tuple[int, int]) -> None:
        """Make it a model of another size: convolutions and attention take any."""
        between = [] if self.interpolation is None else [self.interpolation.spatial]
        for unet in (self.image.unet, *between):
            unet.register_to_config(sample_size=[n // FACTOR for n in size])
        self.image.vae.register_to_config(sample_size=size[1])

    @property
    def autoencoder(self) -> TemporalDecoder:
        """The best autoencoder that there is."""
        alone = TemporalDecoderOptions(conv="none")
        return self.decoder or TemporalDecoder(self.image.vae, alone)

    def begin_key_frames_(self, told: Told = NOTHING) -> VideoModel:
        """Return the layers of key frames, fresh ones if there are none."""
        if self.key_frames is None:
            self.key_frames = inflate(self.image.unet, "video_ldm", **KEY_FRAMES, **asdict(told))
        self.key_frames = _told_of(self.key_frames, asdict(told))
        return self.key_frames

    def begin_interpolation_(self, told: Told = NOTHING) -> VideoModel:
        """Return the model of the frames between; one that is none yet begins as their blend."""
        rate = {"sees_frame_rate": told.sees_frame_rate}
        if self.interpolation is None:
            unet = UNet2DConditionModel.from_config(self.image.unet.config)
            unet.load_state_dict(self.image.unet.state_dict())
            for parameter in unet.conv_out.parameters():
                nn.init.zeros_(parameter)
            unet.to(memory_format=torch.channels_last)
            self.interpolation = inflate(unet, "video_ldm", **BETWEEN, **rate)
        self.interpolation = _told_of(self.interpolation, rate)
        return self.interpolation

    def begin_decoder_(self) -> TemporalDecoder:
        """Return the temporal decoder, a fresh one if there is none."""
        self.decoder = self.decoder or TemporalDecoder(self.image.vae, DECODER)
        return self.decoder


def _told_of(model: VideoModel, told: Mapping[str, bool]) -> VideoModel:
    """Return a model whose layers are told all of it; what is new to them adds nothing yet."""
    new = {name: True for name, wanted in told.items() if wanted > getattr(model.options, name)}
    if not new:
        return model
    learned, family, device = model.temporal.state_dict(), model.family, model.device
    wider = inflate(model.detach(), family, **(vars(model.options) | new))
    wider.temporal.load_state_dict(learned, strict=False)
    return wider.to(device)


def build_driving() -> DrivingModel:
    """Return the image model with fresh weights from torch's current seed."""
    unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**AUTOENCODER)
    for network in (unet, vae):
        network.to(memory_format=torch.channels_last)
    layout = BoxLayout(UNET["block_out_channels"][0])
    return DrivingModel(unet, vae, WordEncoder(TEXT_WIDTH, VOCABULARY, GROUPS), layout)
