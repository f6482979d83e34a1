"""Tiny real models for the tests of every room: the real classes, few channels, random weights."""

import json
from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.inflate import VideoModel, inflate
from legato.models.manifest import Manifest, UpscalerDefaults
from legato.models.save import UpscalerParts, save_upscaler
from legato.models.text import WordEncoder
from legato.models.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig

TEXT_WIDTH = 16
NARROW = {"block_out_channels": (16, 32), "norm_num_groups": 8}
"""Changes of `tiny_unet` for tests of whole jobs: what lies around the network matters there."""


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


SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 0,
    "set_alpha_to_one": True,
}


def randomise_(module: torch.nn.Module, seed: int = 7, scale: float = 0.1) -> torch.nn.Module:
    """Move every parameter a little: fresh temporal layers then act."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


def tiny_video_unet(
    family: str = "video_ldm", *, spatial: UNet2DConditionModel | None = None, **options
) -> VideoModel:
    """The tiny U-Net, or another, with temporal layers that act."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = inflate(tiny_unet() if spatial is None else spatial, family, **options).eval()
    randomise_(model.temporal)
    return model


def tiny_embedded_autoencoder(seed: int = 0) -> TinyAutoencoder:
    """The embedded model's autoencoder, small, with temporal layers that act."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TinyAutoencoder(
            TinyAutoencoderConfig(
                width=16,
                num_blocks=1,
                num_temporal=1,
                tail_width=8,
                encoder_width=8,
                encoder_blocks=1,
            )
        )
    randomise_(model, scale=0.02)
    return model.eval()


def tiny_temporal_decoder(**options) -> TemporalDecoder:
    """The tiny autoencoder with a temporal decoder whose layers act."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        decoder = TemporalDecoder(tiny_autoencoder_kl(), TemporalDecoderOptions(**options))
    randomise_(decoder.temporal)
    return decoder.eval()


def tiny_upscaler_folder(target: Path, *, unet: VideoModel | None = None, **manifest) -> Path:
    """A model folder laid out like the embedded model's: words and a tiny autoencoder."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        words = WordEncoder(TEXT_WIDTH)
    parts = UpscalerParts(
        unet=tiny_video_unet() if unet is None else unet,
        autoencoder=tiny_embedded_autoencoder(),
        text=words,
        schedule=SCHEDULER,
        low_res_schedule=SCHEDULER,
    )
    facts = {
        "name": "tiny-x4",
        "family": "video_ldm",
        "licence": "Apache-2.0",
        "defaults": UpscalerDefaults(steps=1, decoder_context=1),
    }
    save_upscaler(target, parts, Manifest(**(facts | manifest)), dtype=torch.float32)
    return target


def tiny_clip_text(target: Path, *, number: str = "") -> Path:
    """A folder with `text_encoder/` and `tokenizer/` as in Stable Diffusion, tiny.

    `_2` gives those of Stable Diffusion XL's second encoder, with a projection.
    """
    letters = list("abcdefghijklmnopqrstuvwxyz")
    tokens = letters + [f"{letter}</w>" for letter in letters]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    source = target / "vocabulary"
    source.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (source / "vocab.json").write_text(json.dumps(vocabulary))
    (source / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(source / "vocab.json"), str(source / "merges.txt"), model_max_length=7
    )
    tokenizer.save_pretrained(target / f"tokenizer{number}")
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=7,
        bos_token_id=len(tokens) - 2,
        eos_token_id=len(tokens) - 1,
    )
    config.projection_dim = 8
    kind = CLIPTextModelWithProjection if number else CLIPTextModel
    with torch.random.fork_rng():
        torch.manual_seed(2 + len(number))
        kind(config).save_pretrained(target / f"text_encoder{number}")
    return target


def tiny_diffusers_upscaler(target: Path) -> Path:
    """A folder of diffusers' own layout, as an SD x4 upscaler's; no `legato.json`."""
    tiny_unet().save_pretrained(target / "unet")
    tiny_autoencoder_kl().save_pretrained(target / "vae")
    tiny_clip_text(target)
    for part in ("scheduler", "low_res_scheduler"):
        (target / part).mkdir()
        (target / part / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return target
