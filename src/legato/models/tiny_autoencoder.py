"""The embedded model's autoencoder: four latent channels at a quarter of the size.

The decoder sees the low-resolution clip too, so the latents only carry what the clip lacks.
Everything but two pixel-shuffles runs at the low resolution: that is what a CPU can afford.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from legato.models.temporal_conv import add_, silu_

FACTOR = 4
"""Pixels per latent cell along one axis."""
TAIL_FRAMES = 1
"""Frames that are enlarged at a time at inference: the tail looks at one frame, and is large."""


@dataclass(frozen=True, kw_only=True)
class TinyAutoencoderConfig:
    """Topology of a `TinyAutoencoder`; stored as `vae/config.json`."""

    latent_channels: int = 4
    """Channels of the latents."""
    width: int = 64
    """Channels of the decoder's body; a multiple of 32 runs fastest."""
    num_blocks: int = 8
    """Residual blocks of the decoder's body."""
    num_temporal: int = 3
    """The first so many blocks have a temporal convolution after them, of one frame's reach."""
    tail_width: int = 32
    """Channels at twice the low resolution, after the first pixel-shuffle."""
    encoder_width: int = 64
    """Channels of the encoder, which is used in training and for `strength` below 1."""
    encoder_blocks: int = 3
    """Residual blocks of the encoder."""
    scaling_factor: float = 1.0
    """Latents leave the encoder multiplied by this, so that their variance is about 1."""


class ResidualBlock(nn.Module):
    """x + conv(SiLU(conv(SiLU(x)))), without normalisation: the same at any size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
        """Return x plus its residual."""
        return add_(self.conv2(silu_(self.conv1(F.silu(x)))), x)


class TemporalResidual(nn.Module):
    """x plus a (3, 1, 1) convolution over frames that starts at zero.

    Written as a (3, 1) image convolution over `T x (h w)`: with channels-last memory that is a
    view of the frames, and two-dimensional convolutions are the ones that CPUs run fast.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, (3, 1), padding=(1, 0))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, x: Float[Tensor, "N C h w"], num_frames: int) -> Float[Tensor, "N C h w"]:
        """Return x plus the residual; N counts whole clips of `num_frames`."""
        rows = x.shape[-2]
        clip = rearrange(F.silu(x), "(b t) c h w -> b c t (h w)", t=num_frames)
        moved: Tensor = rearrange(self.conv(clip), "b c t (h w) -> (b t) c h w", h=rows)
        return x + moved

    def one(
        self, x: Float[Tensor, "1 C h w"], active: Sequence[Float[Tensor, "P C"] | None]
    ) -> Float[Tensor, "1 C h w"]:
        """Add the residual to one frame, in place, and return it; without gradients.

        Products of matrices, which need no copy of the three frames in a row.

        Args:
            x: the frame, channels-last.
            active: SiLU of the frame before, of this one and of the next, by `pixels_of`; None:
                the clip does not reach there.
        """
        out = pixels_of(x).add_(cast(Tensor, self.conv.bias))
        for tap, pixels in zip(self.conv.weight[..., 0].unbind(dim=2), active, strict=True):
            if pixels is not None:
                out.addmm_(pixels, tap.t())
        return x


def pixels_of(x: Float[Tensor, "1 C h w"]) -> Float[Tensor, "P C"]:
    """Return the pixels of a frame as rows: a view where its memory is channels-last."""
    return rearrange(x, "n c h w -> (n h w) c")


def bicubic(frames: Float[Tensor, "N 3 h w"]) -> Float[Tensor, "N 3 H W"]:
    """Return frames enlarged by `FACTOR`; on CPUs by OpenCV: the same kernel, much faster."""
    if frames.device.type != "cpu" or frames.requires_grad:
        return F.interpolate(frames, scale_factor=FACTOR, mode="bicubic")
    height, width = (side * FACTOR for side in frames.shape[-2:])
    pictures = frames.permute(0, 2, 3, 1).contiguous().numpy()
    large = [cv2.resize(x, (width, height), interpolation=cv2.INTER_CUBIC) for x in pictures]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2)


class TinyEncoder(nn.Module):
    """Pixels to unscaled latents, frame by frame."""

    def __init__(self, config: TinyAutoencoderConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3 * FACTOR**2, config.encoder_width, 3, padding=1)
        self.blocks = nn.Sequential(
            *(ResidualBlock(config.encoder_width) for _ in range(config.encoder_blocks))
        )
        self.conv_out = nn.Conv2d(config.encoder_width, config.latent_channels, 3, padding=1)

    def forward(self, frames: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
        """Return latents before scaling."""
        x = self.conv_in(F.pixel_unshuffle(frames, FACTOR))
        return cast(Tensor, self.conv_out(F.silu(self.blocks(x))))


class ConditionalTinyDecoder(nn.Module):
    """Latents and the low-resolution clip to pixels.

    SFT conditioning (Wang et al. 2018, arXiv:1804.02815, eq. 3): h * (1 + scale) + shift with
    scale and shift computed from the low-resolution clip; a bicubic skip carries its colours.
    """

    def __init__(self, config: TinyAutoencoderConfig) -> None:
        super().__init__()
        width, tail = config.width, config.tail_width
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.condition_in = nn.Conv2d(3, width, 3, padding=1)
        self.condition_block = ResidualBlock(width)
        self.condition_out = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(config.num_blocks))
        self.temporal = nn.ModuleList(TemporalResidual(width) for _ in range(config.num_temporal))
        self.grow = nn.Conv2d(width, 4 * tail, 3, padding=1)
        self.tail = nn.Conv2d(tail, tail, 3, padding=1)
        self.conv_out = nn.Conv2d(tail, 12, 3, padding=1)
        nn.init.zeros_(self.condition_out.weight)
        nn.init.zeros_(cast(Tensor, self.condition_out.bias))

    @property
    def receptive_frames(self) -> int:
        """Frames on either side that reach a decoded frame."""
        return len(self.temporal)

    def forward(
        self,
        latents: Float[Tensor, "N C h w"],
        low_res: Float[Tensor, "N 3 h w"],
        *,
        num_frames: int | None,
        conditional: bool = True,
    ) -> Float[Tensor, "N 3 H W"]:
        """Return pixels.

        Args:
            latents: scaled.
            low_res: the clean small frames.
            num_frames: frames per clip; None switches the temporal convolutions off.
            conditional: False leaves only the bicubic skip of the small frames, so that in training
                the latents have to carry the picture.
        """
        x = self.fuse(latents, low_res) if conditional else self.conv_in(latents)
        for block, temporal in zip_longest(self.blocks, self.temporal):
            x = block(x)
            if temporal is not None and num_frames is not None:
                x = temporal(x, num_frames)
        return self.enlarge(x, low_res)

    def fuse(
        self, latents: Float[Tensor, "N C h w"], low_res: Float[Tensor, "N 3 h w"]
    ) -> Float[Tensor, "N D h w"]:
        """Return the features before the blocks: latents, conditioned on the clip."""
        condition = self.condition_block(self.condition_in(low_res))
        hidden = add_(self.conv_in(latents), condition)
        scale, shift = self.condition_out(silu_(condition)).chunk(2, dim=1)
        # the views come second: what follows takes its memory layout from the first
        return torch.addcmul(hidden, hidden, scale).add_(shift)

    def enlarge(
        self, x: Float[Tensor, "N D h w"], low_res: Float[Tensor, "N 3 h w"]
    ) -> Float[Tensor, "N 3 H W"]:
        """Return pixels of the features after the blocks.

        Without gradients a few at a time, and the features are used up.
        """
        few = len(x) if torch.is_grad_enabled() else TAIL_FRAMES
        starts = range(0, len(x), few)
        pieces = [self._enlarge(x[k : k + few], low_res[k : k + few]) for k in starts]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _enlarge(
        self, x: Float[Tensor, "N D h w"], low_res: Float[Tensor, "N 3 h w"]
    ) -> Float[Tensor, "N 3 H W"]:
        x = F.pixel_shuffle(self.grow(silu_(x)), 2)
        x = F.pixel_shuffle(self.conv_out(silu_(self.tail(silu_(x)))), 2)
        return add_(bicubic(low_res.float()), x.float())


class TinyAutoencoder(nn.Module):
    """Encoder and conditional temporal decoder of the embedded model."""

    def __init__(self, config: TinyAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TinyEncoder(config)
        self.decoder = ConditionalTinyDecoder(config)

    @property
    def is_temporal(self) -> bool:
        """Whether a decoded frame can depend on its neighbours."""
        return self.config.num_temporal > 0

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "TinyAutoencoder":
        """Build from the dictionary that `to_config` returned."""
        known = {k: v for k, v in values.items() if not k.startswith("_")}
        return cls(TinyAutoencoderConfig(**known))

    def to_config(self) -> dict[str, Any]:
        """Return a JSON-ready description of the topology."""
        return {"_class_name": "TinyAutoencoder", **asdict(self.config)}

    def begin_from_(self, shallower: "TinyAutoencoder") -> None:
        """Take the weights and the scale of an autoencoder with at most as many blocks, in place.

        The blocks that it lacks become the identity, so that the result is the same.
        """
        for block in self.decoder.blocks[shallower.config.num_blocks :]:
            last = cast(ResidualBlock, block).conv2
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))
        self.load_state_dict({**self.state_dict(), **shallower.state_dict()})
        scaling_factor = shallower.config.scaling_factor
        self.config = replace(self.config, scaling_factor=scaling_factor)

    def encode(self, frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T C h w"]:
        """Return scaled latents of frames in [-1, 1]; H and W multiples of 4."""
        latents = self.encoder(rearrange(frames, "b t c h w -> (b t) c h w"))
        scaled = latents * self.config.scaling_factor
        clip: Tensor = rearrange(scaled, "(b t) c h w -> b t c h w", b=frames.shape[0])
        return clip

    def decode(
        self,
        latents: Float[Tensor, "B T C h w"],
        low_res: Float[Tensor, "B T 3 h w"],
        *,
        temporal: bool = True,
        conditional: bool = True,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return frames, about [-1, 1], float32, of scaled latents and the clean small clip."""
        batch, num_frames = latents.shape[:2]
        frames = self.decoder(
            rearrange(latents, "b t c h w -> (b t) c h w"),
            rearrange(low_res, "b t c h w -> (b t) c h w"),
            num_frames=num_frames if temporal else None,
            conditional=conditional,
        )
        clip: Tensor = rearrange(frames, "(b t) c h w -> b t c h w", b=batch)
        return clip
