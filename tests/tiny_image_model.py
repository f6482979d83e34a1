"""Tiny image models of both layouts: Stable Diffusion's of diffusers, and one with words."""

import json
from pathlib import Path

import torch
from diffusers import ControlNetModel
from tiny import SCHEDULER, TEXT_WIDTH, tiny_autoencoder_kl, tiny_clip_text, tiny_unet
from tiny_generator import LABELS

from legato.models.folder import FolderWriter
from legato.models.manifest import DEFAULTS_OF, Manifest, UpscalerDefaults
from legato.models.text import WordEncoder

U_NET = {
    "in_channels": 4,
    "num_class_embeds": None,
    "sample_size": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
"""Of 32 x 32 pixels and more; self-attention at stride 8."""


def tiny_diffusers_image_model(target: Path, **changes) -> Path:
    """A folder as Stable Diffusion's: no `legato.json`, CLIP's text encoder, DDIM's schedule."""
    tiny_unet(**(U_NET | changes)).save_pretrained(target / "unet")
    tiny_autoencoder_kl().save_pretrained(target / "vae")
    tiny_clip_text(target)
    (target / "scheduler").mkdir()
    schedule = SCHEDULER | {"prediction_type": "epsilon", "timestep_spacing": "leading"}
    (target / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    return target


def tiny_xl_image_model(target: Path, **changes) -> Path:
    """A folder as Stable Diffusion XL's: two text encoders, sizes, eight pixels per latent cell."""
    told = {
        "cross_attention_dim": 2 * TEXT_WIDTH,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 8,
    }
    tiny_diffusers_image_model(target, **(told | changes))
    tiny_clip_text(target, number="_2")
    blocks = {
        "block_out_channels": (16, 16, 16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    tiny_autoencoder_kl(**blocks, force_upcast=True).save_pretrained(target / "vae")
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    (target / "model_index.json").write_text(json.dumps(index))
    return target


def tiny_words_image_model(
    target: Path, *, job: str = "image", u_net: dict = U_NET, **defaults
) -> Path:
    """A folder as the driving image model's: `legato.json`, a vocabulary, v-prediction."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        words = WordEncoder(TEXT_WIDTH, LABELS)
    manifest = Manifest(
        name="tiny-image",
        family="image",
        job=job,
        licence="Apache-2.0",
        defaults=DEFAULTS_OF.get(job, UpscalerDefaults)(**defaults),
    )
    with FolderWriter(target) as writer:
        for part, network in (("unet", tiny_unet(**u_net)), ("vae", tiny_autoencoder_kl())):
            writer.write_part(part, json.loads(network.to_json_string()), network.state_dict())
        writer.write_part("words", words.to_config(), words.state_dict())
        writer.write_json("scheduler/scheduler_config.json", SCHEDULER)
        writer.finish(manifest)
    return target


def tiny_controlnet(target: Path, **changes) -> Path:
    """A ControlNet of the tiny model whose residuals are not zero."""
    config = {
        "in_channels": 4,
        "conditioning_embedding_out_channels": (8, 8, 8),
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 2,
        "use_linear_projection": True,
    }
    with torch.random.fork_rng():
        torch.manual_seed(6)
        network = ControlNetModel(**(config | changes))
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    network.save_pretrained(target)
    return target
