"""No autoencoder: a diffusion model of pixels, four times four of them to a cell.

Latents are what a picture holds beyond its enlarged small copy (the residual of SRDiff; Li et al.
2021, arXiv:2104.14951), every cell's pixels as channels: a U-Net then works at the small size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from legato.models.tiny_autoencoder import FACTOR, bicubic

CHANNELS = 3 * FACTOR**2


class PixelResidual(nn.Module):
    """What stands where other upscalers have an autoencoder; exact both ways."""

    is_temporal = False
    """Whether a decoded frame can depend on its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        """1 / standard deviation of the residuals that the model learned from."""

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "PixelResidual":
        """Build from the dictionary that `to_config` returned."""
        return cls()

    def to_config(self) -> dict[str, Any]:
        """Return a JSON-ready description of the topology."""
        return {"_class_name": "PixelResidual"}

    def encode(
        self, frames: Float[Tensor, "B T 3 H W"], low_res: Float[Tensor, "B T 3 h w"] | None = None
    ) -> Float[Tensor, "B T 48 h w"]:
        """Return scaled latents.

        Args:
            frames: in [-1, 1]; H and W multiples of 4.
            low_res: the small frames that `decode` will be given; None: the frames' own means.
        """
        large = rearrange(frames, "b t c h w -> (b t) c h w")
        small = (
            F.avg_pool2d(large, FACTOR)
            if low_res is None
            else rearrange(low_res, "b t c h w -> (b t) c h w")
        )
        cells = F.pixel_unshuffle(large - bicubic(small.contiguous()), FACTOR) * self.scale
        clip: Tensor = rearrange(cells, "(b t) c h w -> b t c h w", b=len(frames))
        return clip

    def decode(
        self,
        latents: Float[Tensor, "B T 48 h w"],
        low_res: Float[Tensor, "B T 3 h w"],
        *,
        temporal: bool = True,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return frames, about [-1, 1]; `temporal` changes nothing, for each is by itself."""
        cells, small = (rearrange(x, "b t c h w -> (b t) c h w") for x in (latents, low_res))
        large = F.pixel_shuffle(cells.float() / self.scale, FACTOR)
        for frame, low in zip(large, small, strict=True):  # one at a time: full-size pixels
            frame += bicubic(low[None].float().contiguous())[0]
        clip: Tensor = rearrange(large, "(b t) c h w -> b t c h w", b=len(latents))
        return clip
