"""A tiny real upscaler and a moving clip, for tests of the tensor core."""

from dataclasses import dataclass, field
from functools import cache, partial

import torch
from tiny import NARROW, SCHEDULER, TEXT_WIDTH, tiny_unet
from torch.nn import functional as F

from legato.models.inflate import VideoModel, inflate
from legato.models.manifest import UpscalerDefaults
from legato.models.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from legato.models.tiny_stream import TinyDecoderStream

TinyDefaults = partial(UpscalerDefaults, steps=1, decoder_context=2)


@dataclass(kw_only=True)
class TinyUpscaler:
    unet: VideoModel
    autoencoder: TinyAutoencoder
    scale: int = 4
    has_encoder: bool = True
    is_temporal: bool = True
    streams: bool = True
    approximates: bool = False
    decoder_width: int | None = None
    latent_channels: int = 4
    schedule: dict = field(default_factory=lambda: dict(SCHEDULER))
    low_res_schedule: dict = field(default_factory=lambda: dict(SCHEDULER))
    defaults: UpscalerDefaults = field(default_factory=TinyDefaults)

    @property
    def encode(self):
        return self.autoencoder.encode if self.has_encoder else None

    def encode_prompt(self, prompt):
        generator = torch.Generator().manual_seed(len(prompt))
        return torch.randn(1, 5, TEXT_WIDTH, generator=generator)

    def open_stream(self, wanted):
        return TinyDecoderStream(self.autoencoder.decoder, wanted) if self.streams else None

    def decode(self, latents, low_res, *, temporal=True):
        return self.autoencoder.decode(latents, low_res, temporal=temporal)


@cache
def tiny_upscaler() -> TinyUpscaler:
    """Random weights everywhere, the temporal layers included: they mix frames strongly."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        unet = inflate(tiny_unet(**NARROW), "video_ldm").eval()
        config = TinyAutoencoderConfig(
            width=32,
            num_blocks=2,
            num_temporal=2,
            tail_width=8,
            encoder_width=8,
            encoder_blocks=1,
        )
        autoencoder = TinyAutoencoder(config).eval()
        for name, parameter in [*unet.temporal.named_parameters()]:
            if "mix_factor" in name:
                parameter.data.fill_(0.0)
            elif parameter.dim() > 1 and not parameter.any():
                parameter.data.normal_(std=0.3 / parameter[0].numel() ** 0.5)
        for temporal in autoencoder.decoder.temporal:
            temporal.conv.weight.data.normal_(std=0.05)
        autoencoder.decoder.conv_out.weight.data.mul_(30)  # else the bicubic skip is all there is
        return TinyUpscaler(unet=unet.requires_grad_(False), autoencoder=autoencoder)


def moving_clip(num_frames: int, rows: int, cols: int, *, seed: int = 3) -> torch.Tensor:
    """A smooth texture that slides by (2, 1) pixels a frame, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    height, width = rows + num_frames, cols + 2 * num_frames
    coarse = torch.rand(1, 3, height // 4 + 2, width // 4 + 2, generator=generator)
    canvas = F.interpolate(coarse, size=(height, width), mode="bicubic")[0].clamp(0, 1) * 2 - 1
    return torch.stack([canvas[:, t : t + rows, 2 * t : 2 * t + cols] for t in range(num_frames)])
