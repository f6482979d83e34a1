"""Tiny real models for the tests of every room: the real classes, few channels, random weights."""

from functools import cache

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

TEXT_WIDTH = 16


def tiny_unet(seed: int = 0, **changes) -> UNet2DConditionModel:
    """An upscaler's U-Net: 4 + 3 channels in, 4 out, two levels, noise level as class label."""
    config = {
        "sample_size": 16,
        "in_channels": 7,
        "out_channels": 4,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 2,
        "num_class_embeds": 1000,
        "use_linear_projection": True,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DConditionModel(**(config | changes)).eval()


def tiny_autoencoder_kl(seed: int = 0, **changes) -> AutoencoderKL:
    """An autoencoder with factor 4, like the one of SD x4 upscalers."""
    config = {
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 8,
        "scaling_factor": 0.08333,
        "sample_size": 32,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKL(**(config | changes)).eval()


@cache
def tiny_clip(frames: int = 3, clips: int = 2, height: int = 10, width: int = 12) -> dict:
    """Arguments of a `VideoModel` made by `inflate(tiny_unet(), ...)`."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    return {
        "sample": draw(clips, frames, 7, height, width),
        "timestep": torch.tensor([701, 34, 5])[:clips],
        "encoder_hidden_states": draw(clips, 5, TEXT_WIDTH),
        "class_labels": torch.tensor([20, 120, 0])[:clips],
    }
