"""Tiny U-Nets of every family that attends to itself, and what to call them with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from tiny import TEXT_WIDTH, tiny_unet, tiny_video_unet
from torch import nn

ROWS, COLS = 8, 12


@dataclass(frozen=True, kw_only=True)
class Family:
    """How to build one, and the stride of its guided tokens in latent cells."""

    build: Callable[[], nn.Module]
    strides: tuple[int, ...]
    arguments: Callable[[int], dict]
    channels: int = 4


def unet(**changes) -> UNet2DConditionModel:
    three = {
        "in_channels": 4,
        "block_out_channels": (32, 32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "use_linear_projection": False,
    }
    return tiny_unet(**(three | changes))


COARSE = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
}


def sd1() -> nn.Module:
    return unet(num_class_embeds=None)


def sd2() -> nn.Module:
    return unet(num_class_embeds=None, attention_head_dim=(2, 2, 4), use_linear_projection=True)


def sdxl() -> nn.Module:
    embedded = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    embedded["projection_class_embeddings_input_dim"] = 6 * 8 + TEXT_WIDTH
    layers = {"transformer_layers_per_block": (1, 1, 2)}
    return unet(num_class_embeds=None, **COARSE, **layers, **embedded)


def x4() -> nn.Module:
    return unet(in_channels=7, only_cross_attention=(True, True, False), **COARSE)


def unconditional() -> nn.Module:
    """Attention without transformer blocks: on feature maps, with norm and residual inside."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(
            in_channels=4,
            out_channels=4,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=16,
        ).eval()


def _draw(*shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def text(batch: int) -> dict:
    return {"timestep": 300, "encoder_hidden_states": _draw(batch, 5, TEXT_WIDTH)}


def text_and_size(batch: int) -> dict:
    added = {"text_embeds": _draw(batch, TEXT_WIDTH), "time_ids": _draw(batch, 6)}
    return {**text(batch), "added_cond_kwargs": added}


def text_and_level(batch: int) -> dict:
    return {**text(batch), "class_labels": torch.full((batch,), 20)}


FAMILIES = {
    "sd1": Family(build=sd1, strides=(1, 2), arguments=text),
    "sd2": Family(build=sd2, strides=(1, 2), arguments=text),
    "sdxl": Family(build=sdxl, strides=(2, 4), arguments=text_and_size),
    "x4": Family(build=x4, strides=(4,), arguments=text_and_level, channels=7),
    "embedded": Family(
        build=lambda: tiny_video_unet(), strides=(2,), arguments=text_and_level, channels=7
    ),
    "unconditional": Family(
        build=unconditional, strides=(2,), arguments=lambda batch: {"timestep": 300}
    ),
}


def spatial(model: nn.Module) -> nn.Module:
    """The U-Net of diffusers inside."""
    return getattr(model, "spatial", model)


def run(family: Family, model: nn.Module, num_frames: int = 3, halves: int = 2) -> torch.Tensor:
    """One prediction for frames of noise, halves of guidance side by side."""
    batch = num_frames * halves
    sample = _draw(batch, family.channels, ROWS, COLS)
    with torch.no_grad():
        if model is spatial(model):
            return model(sample, **family.arguments(batch)).sample
        clips = sample.unflatten(0, (halves, num_frames))
        return model(clips, **family.arguments(halves)).flatten(0, 1)
