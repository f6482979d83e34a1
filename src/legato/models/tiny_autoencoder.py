"""The embedded model's autoencoder: four latent channels at a quarter of the size.

The decoder sees the low-resolution clip too, so the latents only carry what the clip lacks.
Everything but two pixel-shuffles runs at the low resolution: that is what a CPU can afford.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from legato.models.places import Places
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


class Beside(NamedTuple):
    """Where the frames before and after show what a frame shows."""

    before: Places
    after: Places

    @classmethod
    def of(cls, motion: Float[Tensor, "N 6 h w"]) -> "Beside":
        """Return the places to which `flow.neighbours.neighbour_motion` leads."""
        return cls(Places.of(motion[:, :3]), Places.of(motion[:, 3:]))


class TemporalResidual(nn.Module):
    """x plus a (3, 1, 1) convolution over frames, along their motion, that starts at zero.

    Computed as products of matrices of pixels, which are views where memory is channels-last.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, (3, 1), padding=(1, 0))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(
        self, x: Float[Tensor, "N C h w"], num_frames: int, beside: Beside | None
    ) -> Float[Tensor, "N C h w"]:
        """Return x plus the residual.

        Args:
            x: whole clips of `num_frames`.
            num_frames: of each clip.
            beside: where the frames before and after show what each shows; None: in the same place.
        """
        count, _, rows, cols = x.shape
        active = pixels_of(F.silu(x))
        clips = active.view(count // num_frames, num_frames, rows * cols, -1)
        before = F.pad(clips[:, :-1], (0, 0, 0, 0, 1, 0)).flatten(0, 2)
        after = F.pad(clips[:, 1:], (0, 0, 0, 0, 0, 1)).flatten(0, 2)
        if beside is not None:
            before, after = beside.before.fetch(before), beside.after.fetch(after)
        moved = cast(Tensor, self.conv.bias)
        for tap, pixels in zip(self._taps, (before, active, after), strict=True):
            moved = torch.addmm(moved, pixels, tap)
        return x + rearrange(moved, "(n h w) c -> n c h w", n=count, h=rows)

    def one(
        self,
        x: Float[Tensor, "1 C h w"],
        active: Sequence[Float[Tensor, "P C"] | None],
        beside: Beside,
    ) -> Float[Tensor, "1 C h w"]:
        """Add the residual to one frame, in place, and return it; without gradients.

        Args:
            x: the frame, channels-last.
            active: SiLU of the frame before, of this one and of the next, by `pixels_of`; None:
                the clip does not reach there.
            beside: where those before and after show what this one shows.
        """
        before, own, after = active
        found = (
            None if before is None else beside.before.fetch(before),
            own,
            None if after is None else beside.after.fetch(after),
        )
        out = pixels_of(x).add_(cast(Tensor, self.conv.bias))
        for tap, pixels in zip(self._taps, found, strict=True):
            if pixels is not None:
                out.addmm_(pixels, tap)
        return x

    @property
    def _taps(self) -> Sequence[Float[Tensor, "C C"]]:
        """Of the frame before, of this one and of the next, from channels to channels."""
        return [tap.t() for tap in self.conv.weight[..., 0].unbind(dim=2)]


def pixels_of(x: Float[Tensor, "N C h w"]) -> Float[Tensor, "P C"]:
    """Return the pixels of frames as rows: a view where their memory is channels-last."""
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
        motion: Float[Tensor, "N 6 h w"] | None = None,
        conditional: bool = True,
    ) -> Float[Tensor, "N 3 H W"]:
        """Return pixels.

        Args:
            latents: scaled.
            low_res: the clean small frames.
            num_frames: frames per clip; None switches the temporal convolutions off.
            motion: to the frames before and after, by `flow.neighbours.neighbour_motion`; None:
                nothing moves.
            conditional: False leaves only the bicubic skip of the small frames, so that in training
                the latents have to carry the picture.
        """
        x = self.fuse(latents, low_res) if conditional else self.conv_in(latents)
        beside = None if motion is None else Beside.of(motion)
        for block, temporal in zip_longest(self.blocks, self.temporal):
            x = block(x)
            if temporal is not None and num_frames is not None:
                x = temporal(x, num_frames, beside)
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
        motion: Float[Tensor, "B T 6 h w"] | None = None,
        temporal: bool = True,
        conditional: bool = True,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return frames, about [-1, 1], float32, of scaled latents and the clean small clip.

        Args:
            latents: as the U-Net predicts them.
            low_res: the frames that they belong to, in [-1, 1].
            motion: of each frame to the ones before and after; None: nothing moves.
            temporal: False decodes every frame on its own.
            conditional: whether the decoder sees more of `low_res` than the bicubic skip.
        """
        batch, num_frames = latents.shape[:2]
        frames = self.decoder(
            rearrange(latents, "b t c h w -> (b t) c h w"),
            rearrange(low_res, "b t c h w -> (b t) c h w"),
            num_frames=num_frames if temporal else None,
            motion=None if motion is None else motion.flatten(0, 1),
            conditional=conditional,
        )
        clip: Tensor = rearrange(frames, "(b t) c h w -> b t c h w", b=batch)
        return clip
