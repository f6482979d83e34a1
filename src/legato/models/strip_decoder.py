"""The decoder of an `AutoencoderKL`, inflated or not, layer by layer in strips.

The plain decoder holds several copies of its widest map, which at full size has 256 channels for
every pixel of the output; this one holds that map once. The result differs by rounding only.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UpDecoderBlock2D
from diffusers.models.upsampling import Upsample2D
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from legato.device import KEPT_BYTES, keeping_freed_memory
from legato.models.inflate import Inflated
from legato.models.strips import Strips, convolve, cut, normalise, over, taken
from legato.models.temporal_conv import TemporalConv, VolumeConv, as_clip, as_frames

VALUES_PER_STRIP = 1 << 22
"""At the widest layer: 16 MB in float32."""

SCORES_AT_ONCE = 1 << 24
"""Of attention: queries times keys."""

KEY_CELL = 2
"""Side of the cells whose mean the attention of an approximate decoder reads."""


def works_in_strips(autoencoder: AutoencoderKL) -> bool:
    """Tell whether a decoder has only the layers that are known here."""
    decoder = autoencoder.decoder
    resnets = [module for module in decoder.modules() if isinstance(module, ResnetBlock2D)]
    return all(type(block) is UpDecoderBlock2D for block in decoder.up_blocks) and all(
        block.time_emb_proj is None and block.upsample is None and block.downsample is None
        for block in resnets
    )


def attends(autoencoder: AutoencoderKL) -> bool:
    """Tell whether a decoder works in strips and holds an attention."""
    middle = autoencoder.decoder.mid_block
    return works_in_strips(autoencoder) and any(part is not None for part in middle.attentions)


def values_per_cell(autoencoder: AutoencoderKL) -> int:
    """Return the numbers that the widest map of a decoder has for every latent cell."""
    scale, widest = 1, 0
    for block in autoencoder.decoder.up_blocks:
        widest = max(widest, *(scale**2 * resnet.in_channels for resnet in block.resnets))
        if block.upsamplers is not None:
            scale *= 2
            widest = max(widest, scale**2 * block.upsamplers[0].out_channels)
    return widest


@torch.no_grad()
def decode_in_strips(
    owner: Inflated, latents: Float[Tensor, "N C h w"], *, key_cell: int = 1
) -> Float[Tensor, "N 3 H W"]:
    """Return the frames of unscaled latents, as `AutoencoderKL.decode` with its owner's hooks.

    Args:
        owner: the inflated autoencoder.
        latents: unscaled.
        key_cell: side of the cells whose means attention reads; 1: every place, which is exact.
    """
    autoencoder: Any = owner.spatial
    if autoencoder.post_quant_conv is not None:
        latents = autoencoder.post_quant_conv(latents)
    per_row = len(latents) * latents.shape[-1] * values_per_cell(autoencoder)
    first = autoencoder.decoder.conv_in(latents)  # a hook adds what the small frames say
    with keeping_freed_memory(KEPT_BYTES // 32):  # holes of narrow strips do not fit wide ones
        strips = cut(first, max(VALUES_PER_STRIP // per_row, 1))
        del first
        return _Layers(owner, key_cell)(strips)


class _Layers:
    """The layers behind the first convolution; each takes strips and uses them up."""

    def __init__(self, owner: Inflated, key_cell: int) -> None:
        self.owner, self.context, self.key_cell = owner, owner.context, key_cell
        self.num_frames = 1 if self.context is None else self.context.num_frames
        self.norm_frames = self.num_frames if owner.options.norm_stats == "clip" else 1
        self.keys = {owner.spatial.get_submodule(site.path): site.key for site in owner.sites}

    def __call__(self, strips: Strips) -> Float[Tensor, "N 3 H W"]:
        decoder: Any = self.owner.spatial.decoder
        middle = decoder.mid_block
        strips = self.resnet(middle.resnets[0], strips)
        for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
            if attention is not None:
                strips = self.attention(attention, strips)
            strips = self.resnet(resnet, strips)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                strips = self.resnet(resnet, strips)
            for upsampler in block.upsamplers or ():
                strips = self.upsample(upsampler, strips)
        return self.last(decoder.conv_norm_out, decoder.conv_out, strips)

    def resnet(self, block: ResnetBlock2D, strips: Strips) -> Strips:
        prepare = normalise(block.norm1, strips, num_frames=self.norm_frames)
        carried: Strips = []

        def enter(strip: Tensor, whole: Tensor) -> Tensor:
            carried.append(strip if block.conv_shortcut is None else block.conv_shortcut(strip))
            return convolve(block.conv1, whole)

        def leave(_: Tensor, whole: Tensor) -> Tensor:
            found = convolve(block.conv2, whole).add_(carried.pop(0))
            return found.div_(block.output_scale_factor)

        hidden = over(strips, enter, prepare)
        prepare = normalise(block.norm2, hidden, num_frames=self.norm_frames)
        out = over(hidden, leave, prepare)
        layer = self._temporal(block)
        if isinstance(layer, VolumeConv):
            return self.volume(layer, out)
        return self.time(layer, out) if isinstance(layer, TemporalConv) else out

    def attention(self, attn: Attention, strips: Strips) -> Strips:
        """All tokens of a frame, or their means in cells, queries block by block."""
        rows = strips[0].shape[2]
        maps = torch.cat(list(taken(strips)), dim=2)
        for frame in maps:  # `C h w`, changed in place
            normed = attn.group_norm(frame.flatten(1)[None])
            tokens, read = normed.transpose(1, 2), self._cells(normed.view(1, *frame.shape))
            k, v = (self._heads(attn, layer(read)) for layer in (attn.to_k, attn.to_v))
            flat, start = frame.permute(1, 2, 0).reshape(-1, frame.shape[0]), 0
            for some in tokens.split(max(SCORES_AT_ONCE // read.shape[1], 1), dim=1):
                found = F.scaled_dot_product_attention(self._heads(attn, attn.to_q(some)), k, v)
                own = slice(start, start + some.shape[1])
                projected = attn.to_out[0](found.transpose(1, 2).flatten(2))[0]
                flat[own] = (projected + flat[own]) / attn.rescale_output_factor
                start = own.stop
            frame.copy_(flat.view(*frame.shape[1:], -1).permute(2, 0, 1))
        return cut(maps, rows)

    def _cells(self, normed: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 P C"]:
        """Return the tokens that are read."""
        if self.key_cell > 1:
            normed = F.avg_pool2d(normed, self.key_cell, ceil_mode=True, count_include_pad=False)
        return normed.flatten(2).transpose(1, 2)

    @staticmethod
    def _heads(attn: Attention, x: Float[Tensor, "1 P C"]) -> Float[Tensor, "1 n P c"]:
        return rearrange(x, "b p (n c) -> b n p c", n=attn.heads)

    def upsample(self, layer: Upsample2D, strips: Strips) -> Strips:
        def enlarge(_: Tensor, whole: Tensor) -> Tensor:
            large = F.interpolate(whole, scale_factor=2.0, mode="nearest")
            return convolve(layer.conv, large[:, :, 1:-1])

        return over(strips, enlarge)

    def last(self, norm: nn.GroupNorm, conv: nn.Conv2d, strips: Strips) -> Tensor:
        prepare = normalise(norm, strips, num_frames=self.norm_frames)
        layer = self._temporal(conv)

        def show(_: Tensor, whole: Tensor) -> Tensor:
            rows = convolve(conv, whole)
            if layer is not None and self.context is not None:
                rows = rows + layer(rows, self.num_frames) * self.context.condition_weight
            return rows

        return torch.cat(over(strips, show, prepare), dim=2)

    def volume(self, layer: VolumeConv, strips: Strips) -> Strips:
        """Add a 3x3x3 convolution behind a norm of the clip."""
        prepare = normalise(layer.norm_3d, strips, num_frames=self.num_frames)
        conv = layer.conv_3d

        def add(strip: Tensor, whole: Tensor) -> Tensor:
            clip = rearrange(whole, "(b t) c h w -> b c t h w", t=self.num_frames)
            delta = F.conv3d(clip, conv.weight, conv.bias, padding=(1, 0, 1))
            return strip.add_(rearrange(delta, "b c t h w -> (b t) c h w"))

        return over(strips, add, prepare)

    def time(self, layer: TemporalConv, strips: Strips) -> Strips:
        """Add a residual block along time: its convolutions see one pixel of every frame."""
        prepare = normalise(layer.norm1, strips, num_frames=self.num_frames)
        hidden, out = [], []
        for strip in strips:
            clip = as_clip(prepare(strip.clone()), self.num_frames)
            hidden.append(as_frames(layer.conv1(clip), *strip.shape[2:]))
        prepare = normalise(layer.norm2, hidden, num_frames=self.num_frames)
        for strip, own in zip(taken(strips), taken(hidden), strict=True):
            clip = as_clip(prepare(own), self.num_frames)
            size = (strip.shape[2], strip.shape[3])
            out.append(strip.add_(layer.difference(clip, self.num_frames, size)))
        return out

    def _temporal(self, module: nn.Module) -> nn.Module | None:
        key = self.keys.get(module)
        if key is None or self.context is None or key in self.owner.skip:
            return None
        layer: nn.Module = self.owner.temporal[key]
        return layer
