"""Where a U-Net attends to itself: self-attentions found by type, and how coarse their tokens are.

The stride of a token follows from the number of resampling layers, not from a block's name, so that
one choice ("strides 8 and 16") means the same in Stable Diffusion 1.x, 2.x, XL, the x4 upscaler and
the embedded model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from diffusers.models.attention_processor import Attention
from torch import nn

from legato.errors import ModelError

Part = Literal["down", "mid", "up"]


@dataclass(frozen=True, kw_only=True)
class SelfAttentionSite:
    """One self-attention of a U-Net."""

    path: str
    """Dotted name of the `Attention` inside the U-Net."""
    part: Part
    """Encoder, middle or decoder."""
    stride: int
    """Pixels per token, each way."""


def find_self_attentions(unet: nn.Module, *, cell: int) -> list[SelfAttentionSite]:
    """Return every self-attention of a diffusers U-Net in the order of its forward pass.

    Attentions that read text only (the x4 upscaler's upper levels) are not among them.

    Args:
        unet: with `down_blocks`, `mid_block` and `up_blocks`; of a `VideoModel` its `spatial`.
        cell: pixels per latent cell, in the pixels that strides are counted in.
    """
    sites = []
    for part, path, block, latent_stride in _blocks(unet):
        for name, module in block.named_modules():
            if isinstance(module, Attention) and _attends_to_itself(module):
                stride = cell * latent_stride
                sites.append(SelfAttentionSite(path=f"{path}.{name}", part=part, stride=stride))
    return sites


def choose_self_attentions(
    unet: nn.Module, *, cell: int, strides: Sequence[int], parts: Sequence[Part] = ("up",)
) -> list[SelfAttentionSite]:
    """Return the self-attentions with one of these strides, by default those of the decoder.

    Raises:
        ModelError: there is none; the message names the strides that the model has.
    """
    there = [site for site in find_self_attentions(unet, cell=cell) if site.part in parts]
    chosen = [site for site in there if site.stride in strides]
    if not chosen:
        wanted = " or ".join(map(str, strides))
        has = ", ".join(map(str, sorted({site.stride for site in there}))) or "none"
        raise ModelError(
            f"{type(unet).__name__}: no self-attention of stride {wanted}",
            why=f"the strides of its self-attentions are: {has}",
            fix="choose one of them, or use another model",
        )
    return chosen


def decoder_blocks(unet: nn.Module) -> dict[str, nn.Module]:
    """Return the decoder's blocks by their dotted names, coarsest first."""
    blocks = unet.up_blocks
    assert isinstance(blocks, nn.ModuleList)
    return {f"up_blocks.{index}": block for index, block in enumerate(blocks)}


def _blocks(unet: nn.Module) -> Iterator[tuple[Part, str, nn.Module, int]]:
    """Yield each block with the latent cells per token at which it attends."""
    stride = 1
    for index, block in enumerate(unet.down_blocks):  # type: ignore[arg-type]
        yield "down", f"down_blocks.{index}", block, stride
        stride *= 2 ** len(getattr(block, "downsamplers", None) or ())
    if isinstance(unet.mid_block, nn.Module):
        yield "mid", "mid_block", unet.mid_block, stride
    for path, block in decoder_blocks(unet).items():
        yield "up", path, block, stride
        stride //= 2 ** len(getattr(block, "upsamplers", None) or ())


def _attends_to_itself(module: Attention) -> bool:
    return not module.is_cross_attention and module.added_kv_proj_dim is None
