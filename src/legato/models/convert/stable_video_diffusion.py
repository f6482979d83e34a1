"""Stable Video Diffusion into image networks and temporal layers of our own.

diffusers keeps both of the U-Net in one `UNetSpatioTemporalConditionModel` (Blattmann et al. 2023,
arXiv:2311.15127). Its image part is a `UNet2DConditionModel` whose class labels are the sinusoids
of frame rate, motion and noise; what it attends to is a picture's embedding, not text, and its
input holds that picture's latents beside the noisy ones. Temporal layers are of the family
`video_ldm`. The autoencoder is split likewise. A U-Net alone becomes temporal layers for others.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from legato.errors import ModelError
from legato.models.convert.foreign import ForeignFolder
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.folder import PICTURE_ENCODER, TEXT_WEIGHTS, FolderWriter
from legato.models.inflate import VideoModel, check_state, inflate
from legato.models.manifest import LAYERS, REFILL, GeneratorDefaults, Manifest
from legato.models.parts import SCHEDULE, latent_facts
from legato.models.picture_encoder import PREPROCESSOR, PREPROCESSOR_CONFIG
from legato.models.save import write_decoder, write_text, write_unet
from legato.models.text import WordEncoder

KEPT = (
    "in_channels",
    "out_channels",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "transformer_layers_per_block",
    "projection_class_embeddings_input_dim",
    "sample_size",
)
"""Fields of the configuration that mean the same in the image U-Net."""
NUM_FRAMES = 25
"""Of diffusers' configuration where it names no other number."""
AUTOENCODER_KEPT = (
    *("in_channels", "out_channels", "latent_channels", "sample_size", "scaling_factor"),
    *("block_out_channels", "layers_per_block", "down_block_types", "force_upcast"),
)
"""The same of the autoencoder."""
LAST = "decoder.time_conv_out."
LATENT_CELL = 8
"""Pixels per latent cell, each way."""
NORM_EPS = 1e-5
"""Of all residual blocks in the original release; diffusers has 1e-6 in some."""
RESNET = re.compile(r"(.+\.resnets\.\d+)\.(spatial_res_block|temporal_res_block|time_mixer)\.(.+)")
TEMPORAL_BLOCK = re.compile(r"(.+)\.temporal_transformer_blocks\.(\d+)\.(.+)")
SHARED = re.compile(r"(.+\.attentions\.\d+)\.((?:time_pos_embed|time_mixer)\..+)")
"""What all temporal blocks of one transformer share."""


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the image part and the temporal part of the state, renamed."""
    spatial: dict[str, Tensor] = {}
    temporal: dict[str, Tensor] = {}
    for key, value in state.items():
        resnet, block, shared = (
            pattern.fullmatch(key) for pattern in (RESNET, TEMPORAL_BLOCK, SHARED)
        )
        if resnet and resnet[2] == "spatial_res_block":
            spatial[f"{resnet[1]}.{resnet[3]}"] = value
        elif resnet:
            mixer = "time_mixer." if resnet[2] == "time_mixer" else ""
            temporal[f"{_site(resnet[1])}.{mixer}{resnet[3]}"] = value
        elif block:
            temporal[f"{_site(block[1])}/transformer_blocks/{block[2]}.{block[3]}"] = value
        elif shared:
            for index in _blocks_of(state, shared[1]):
                site = f"{_site(shared[1])}/transformer_blocks/{index}"
                temporal[f"{site}.{shared[2]}"] = value.clone()
        else:
            spatial[key.replace("add_embedding.", "class_embedding.")] = value
    return spatial, temporal


def build_unet(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> VideoModel:
    """Return the U-Net that a configuration and state of diffusers describe, filled.

    Raises:
        ModelError: a field or parameter is missing, unknown or of another shape.
    """
    try:
        image_config = {name: config[name] for name in KEPT} | {
            "down_block_types": [_flat(name) for name in config["down_block_types"]],
            "up_block_types": [_flat(name) for name in config["up_block_types"]],
            "attention_head_dim": config["num_attention_heads"],  # diffusers' name for heads
            "class_embed_type": "projection",
            "use_linear_projection": True,
            "norm_eps": NORM_EPS,
        }
        with torch.device("meta"):
            unet = UNet2DConditionModel(**image_config)
            frames = config.get("num_frames", NUM_FRAMES)
            model = inflate(unet, "video_ldm", num_frames=frames, norm_eps=NORM_EPS)
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            "the U-Net's config.json is not understood", why=f"{error}", fix=REFILL
        ) from error
    spatial, temporal = split(state)
    check_state(spatial, model.spatial.state_dict(), what="image weights of the U-Net")
    check_state(temporal, model.temporal.state_dict(), what="temporal weights of the U-Net")
    model.spatial.load_state_dict(spatial, assign=True)
    model.temporal.load_state_dict(temporal, assign=True)
    return model


def build_autoencoder(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> TemporalDecoder:
    """Return the autoencoder that a configuration and state of diffusers describe, filled.

    Two kinds of numbers change with the form of what they stand in: there a mixing weight says how
    much of the temporal branch is taken, here how much of the spatial one, and what there follows
    the last convolution is here added to it.

    Raises:
        ModelError: a field or parameter is missing, unknown or of another shape.
    """
    try:
        widths = config["block_out_channels"]
        with torch.device("meta"):
            image = AutoencoderKL(
                **{name: config[name] for name in AUTOENCODER_KEPT},
                up_block_types=["UpDecoderBlock2D"] * len(widths),
                use_post_quant_conv=False,
            )
            model = TemporalDecoder(image, TemporalDecoderOptions(norm_eps=NORM_EPS))
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            "the autoencoder's config.json is not understood", why=f"{error}", fix=REFILL
        ) from error
    spatial: dict[str, Tensor] = {}
    temporal: dict[str, Tensor] = {}
    for key, value in state.items():
        resnet = RESNET.fullmatch(key)
        if resnet and resnet[2] == "spatial_res_block":
            spatial[f"{resnet[1]}.{resnet[3]}"] = value
        elif resnet and resnet[2] == "time_mixer":
            temporal[f"{_site(resnet[1])}.time_mixer.{resnet[3]}"] = -value
        elif resnet:
            temporal[f"{_site(resnet[1])}.{resnet[3]}"] = value
        elif key.startswith(LAST):
            temporal[f"{_site('decoder.conv_out')}.conv.{key.removeprefix(LAST)}"] = value
        else:
            spatial[key] = value
    check_state(spatial, model.spatial.state_dict(), what="image weights of the autoencoder")
    check_state(temporal, model.temporal.state_dict(), what="temporal weights of the autoencoder")
    last = f"{_site('decoder.conv_out')}.conv.weight"
    temporal[last] = temporal[last].clone()
    for channel in range(len(temporal[last])):
        temporal[last][channel, channel, 1] -= 1
    model.spatial.load_state_dict(spatial, assign=True)
    model.temporal.load_state_dict(temporal, assign=True)
    return model


def convert_stable_video_diffusion(
    source: Path, target: Path, *, dtype: torch.dtype = torch.float16
) -> Manifest:
    """Write a folder that makes videos of pictures, or one of temporal layers alone.

    Args:
        source: a whole folder, or one with `unet/`, or of the U-Net alone.
        target: folder to write.
        dtype: precision of what is written.

    Raises:
        ModelError: a file is missing, damaged or does not fit.
        InputError: the target is a folder of something else.
    """
    folder = ForeignFolder(source)
    model = build_unet(folder.config("unet"), folder.weights("unet"))
    with FolderWriter(target) as writer:
        write_unet(writer, model, dtype)
        predicts = "v_prediction"
        if folder.has("scheduler"):
            schedule = folder.config("scheduler", SCHEDULE)
            writer.write_json(f"scheduler/{SCHEDULE}", schedule)
            predicts = schedule.get("prediction_type", "epsilon")
        is_whole = all(folder.has(part) for part in ("scheduler", "vae", PICTURE_ENCODER))
        scale = _write_others(writer, folder, dtype) if is_whole else LATENT_CELL
        manifest = Manifest(
            name=target.name,
            family="video_ldm",
            licence=folder.licence(),
            job="generate" if is_whole else LAYERS,
            scale=scale,
            prediction_type=predicts,
            defaults=GeneratorDefaults(
                steps=25,
                window=folder.config("unet").get("num_frames", NUM_FRAMES),
                key_frame_rate=7.0,
                guidance_scale=3.0,
                width=1024,
                height=576,
            ),
        )
        return writer.finish(manifest)


def _write_others(writer: FolderWriter, folder: ForeignFolder, dtype: torch.dtype) -> int:
    """Write what a whole model has beside its U-Net and schedule; return pixels per latent cell."""
    autoencoder = build_autoencoder(folder.config("vae"), folder.weights("vae"))
    write_decoder(writer, autoencoder, dtype)
    encoder = folder.config(PICTURE_ENCODER)
    writer.write_part(
        PICTURE_ENCODER, encoder, folder.weights(PICTURE_ENCODER), dtype=dtype, weights=TEXT_WEIGHTS
    )
    if folder.has(PREPROCESSOR):
        values = folder.config(PREPROCESSOR, PREPROCESSOR_CONFIG)
        writer.write_json(f"{PREPROCESSOR}/{PREPROCESSOR_CONFIG}", values)
    width = int(folder.config("unet")["cross_attention_dim"])
    write_text(writer, WordEncoder(width, vocabulary=[]), dtype)  # it reads no words
    return latent_facts(autoencoder)[1]


def _site(path: str) -> str:
    return path.replace(".", "/")


def _blocks_of(state: Mapping[str, Tensor], transformer: str) -> list[str]:
    pattern = re.compile(re.escape(transformer) + r"\.temporal_transformer_blocks\.(\d+)\..+")
    return sorted({found[1] for key in state if (found := pattern.fullmatch(key))})


def _flat(block: str) -> str:
    """Return the image block of a block's name."""
    return block.replace("SpatioTemporal", "2D")
