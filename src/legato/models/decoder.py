"""Decoders that see a whole clip: any `AutoencoderKL` of diffusers, inflated.

Temporal convolutions follow the decoder's ResBlocks, and the low-resolution frames may steer its
first features by a spatial feature transform (Wang et al. 2018, arXiv:1804.02815). The encoder
stays frame by frame.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import AutoencoderKL
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from legato.device import available_memory_bytes
from legato.errors import InputError
from legato.models.families import NormStats
from legato.models.hooks import ClipContext
from legato.models.inflate import Inflated
from legato.models.positions import zero_
from legato.models.sites import Site, find_sites
from legato.models.strip_decoder import (
    KEY_CELL,
    VALUES_PER_STRIP,
    decode_in_strips,
    values_per_cell,
    works_in_strips,
)
from legato.models.temporal_conv import (
    ClipResBlock,
    TemporalConv,
    TimeConv,
    TimeMixer,
    VolumeConv,
    as_clip,
    as_frames,
    convolve_volume,
)

WHOLE_VALUES = VALUES_PER_STRIP
"""Of the widest map: what fits into one strip is decoded whole."""

WHOLE_COPIES = 4
"""Of the widest map, held at a time by a decoder that works on whole maps."""

SHARE = 0.7
"""Of a device's free memory that they may take."""


@dataclass(frozen=True, kw_only=True)
class TemporalDecoderOptions:
    """Which layers a `TemporalDecoder` adds to the image decoder."""

    conv: Literal["time", "volume", "none"] = "time"
    """After each ResBlock: (3,1,1) residual blocks mixed by a learned weight (Stable Video
    Diffusion), one 3x3x3 convolution (Upscale-A-Video), or nothing."""
    conv_out_time: bool = True
    """A (3,1,1) convolution behind the last one, with `conv="time"` only."""
    condition_channels: int | None = None
    """Width of the features of the low-resolution frames; None: the decoder does not see them."""
    norm_stats: NormStats = "frame"
    """Whether the image decoder's norms see a frame or the clip."""
    norm_eps: float = 1e-6
    """Of the temporal residual blocks' norms; Stable Video Diffusion was trained with 1e-5."""

    def build(self, site: Site) -> nn.Module | None:
        """Return the fresh layer of a site; None: none there."""
        if site.kind == "cond.sft":
            width = self.condition_channels
            return None if width is None else FeatureTransform(site.channels, width)
        if site.kind == "conv.out":
            wanted = self.conv == "time" and self.conv_out_time
            return ClipTimeConv(site.channels) if wanted else None
        if self.conv == "time":
            return TemporalConv(
                site.channels, None, mixer=TimeMixer(initial=0.0), eps=self.norm_eps
            )
        return VolumeConv(site.channels) if self.conv == "volume" else None


class ClipTimeConv(nn.Module):
    """A (3,1,1) convolution on frames, which starts as zero and is added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = TimeConv(channels, channels)
        zero_(self.conv)

    def forward(
        self, x: Float[Tensor, "BT C H W"], num_frames: int, second: object = None
    ) -> Float[Tensor, "BT C H W"]:
        """Return what is added to x."""
        return as_frames(self.conv(as_clip(x, num_frames)), x.shape[-2], x.shape[-1])


class VolumeResBlock(ClipResBlock):
    """A residual block whose output gains a 3x3x3 convolution of itself (names of the release)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels)
        volume = VolumeConv(out_channels)
        self.norm_3d, self.conv_3d = volume.norm_3d, volume.conv_3d

    def forward(
        self,
        x: Float[Tensor, "BT C H W"],
        num_frames: int,
        temb: Float[Tensor, "BT E"] | None = None,
    ) -> Float[Tensor, "BT D H W"]:
        """Return the block's output."""
        hidden = super().forward(x, num_frames)
        return hidden + convolve_volume(self.norm_3d, self.conv_3d, hidden, num_frames)


class FeatureTransform(nn.Module):
    """What the low-resolution frames say about the decoder's first features: x scale + shift.

    scale and shift are convolutions of features of [condition, x]; both start as zero.
    Upscale-A-Video's `condition_in` and `condition_fuse` (names of the release).
    """

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()
        width = condition_channels
        self.condition_in = nn.ModuleList([VolumeResBlock(3, width), VolumeResBlock(width, width)])
        shared = [ClipResBlock(width + channels, channels), ClipResBlock(channels, channels)]
        self.condition_fuse = nn.ModuleDict(
            {
                "shared": nn.ModuleList(shared),
                "scale": nn.Conv2d(channels, channels, 3, padding=1),
                "shift": nn.Conv2d(channels, channels, 3, padding=1),
            }
        )
        zero_(self.condition_fuse["scale"])
        zero_(self.condition_fuse["shift"])

    def forward(
        self,
        x: Float[Tensor, "BT C h w"],
        num_frames: int,
        low_res: Float[Tensor, "BT 3 h w"] | None = None,
    ) -> Float[Tensor, "BT C h w"]:
        """Return what is added to x.

        Raises:
            InputError: the low-resolution frames are missing.
        """
        if low_res is None:
            raise InputError(
                "low_res=None",
                why="this decoder is conditioned on the low-resolution frames",
                fix="give decode() the frames that the latents belong to",
            )
        condition = low_res.to(x.dtype)
        for block in self.condition_in:
            condition = block(condition, num_frames)
        hidden = torch.cat([condition, x], dim=1)
        for block in self.condition_fuse["shared"]:  # type: ignore[attr-defined]
            hidden = block(hidden, num_frames)
        out: Tensor = x * self.condition_fuse["scale"](hidden) + self.condition_fuse["shift"](
            hidden
        )
        return out


class TemporalDecoder(Inflated):
    """An `AutoencoderKL` whose decoder sees clips; fresh layers add exactly nothing.

    Args:
        autoencoder: the image model; kept, not copied.
        options: which layers are added.
    """

    spatial: AutoencoderKL

    def __init__(self, autoencoder: AutoencoderKL, options: TemporalDecoderOptions) -> None:
        sites = [
            site
            for kind in ("cond.sft", "resnet.post", "conv.out")
            for site in find_sites(autoencoder, kind)
            if site.path.startswith("decoder.")
        ]
        super().__init__(autoencoder, "temporal_decoder", options, sites)

    def norms_of(self) -> nn.Module:
        """Return the decoder: the encoder's norms always see single frames."""
        decoder: nn.Module = self.spatial.decoder
        return decoder

    def decode(
        self,
        latents: Float[Tensor, "B T C h w"],
        low_res: Float[Tensor, "B T 3 h w"] | None = None,
        *,
        condition_weight: float = 1.0,
        approximate: bool = False,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return the clip that the latents stand for, about [-1, 1].

        Large clips are decoded in strips on a CPU, and on other devices where memory is short.

        Args:
            latents: scaled, as the U-Net predicts them.
            low_res: the frames at the latents' size, [-1, 1]; only for conditioned decoders.
            condition_weight: 0 ignores what they say, 1 is as trained.
            approximate: whether the attention of a decoder that `attends` reads means of cells
                instead of every place; without gradients.

        Raises:
            InputError: a conditioned decoder is called without `low_res`.
        """
        num_frames = latents.shape[1]
        fold = "b t c h w -> (b t) c h w"
        context = ClipContext(
            num_frames=num_frames,
            low_res=None if low_res is None else rearrange(low_res, fold),
            condition_weight=condition_weight,
        )
        frames = rearrange(latents, fold) / self.spatial.config.scaling_factor
        frames = frames.contiguous(memory_format=torch.channels_last)
        with self.clip(context):
            if approximate or self._needs_strips(frames):
                out = decode_in_strips(self, frames, key_cell=KEY_CELL if approximate else 1)
            else:
                out = self.spatial.decode(frames, return_dict=False)[0]
        return rearrange(out, "(b t) c h w -> b t c h w", t=num_frames)

    def _needs_strips(self, latents: Float[Tensor, "N C h w"]) -> bool:
        """Tell whether whole maps would be too large; with gradients everything is kept anyway."""
        if torch.is_grad_enabled() or not works_in_strips(self.spatial):
            return False
        values = latents[:, 0].numel() * values_per_cell(self.spatial)
        if latents.device.type == "cpu":
            return values > WHOLE_VALUES
        needed = WHOLE_COPIES * values * latents.element_size()
        return needed > SHARE * available_memory_bytes(latents.device)

    def encode(self, frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T C h w"]:
        """Return the scaled latents (the posterior's mean) of every frame on its own."""
        flat = rearrange(frames, "b t c h w -> (b t) c h w")
        latents: Tensor = self.spatial.encode(flat).latent_dist.mean
        latents = latents * self.spatial.config.scaling_factor
        return rearrange(latents, "(b t) c h w -> b t c h w", t=frames.shape[1])
