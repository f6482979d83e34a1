"""Stable Video Diffusion's U-Net into an image U-Net and temporal layers of the family `video_ldm`.

diffusers keeps both in one `UNetSpatioTemporalConditionModel` (Blattmann et al. 2023,
arXiv:2311.15127). Its image part is a `UNet2DConditionModel` whose class labels are the sinusoids
of frame rate, motion and noise; what it attends to is the first frame's embedding, not text, and
its input holds that frame's latents beside the noisy ones. Nothing here samples with that, so the
folder is one of temporal layers for others. Only names are mapped; no number is changed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from legato.errors import ModelError
from legato.models.convert.foreign import ForeignFolder
from legato.models.folder import FolderWriter
from legato.models.inflate import VideoModel, check_state, inflate
from legato.models.manifest import LAYERS, REFILL, GeneratorDefaults, Manifest
from legato.models.parts import SCHEDULE
from legato.models.save import write_unet

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


def convert_stable_video_diffusion(
    source: Path, target: Path, *, dtype: torch.dtype = torch.float16
) -> Manifest:
    """Write a folder with the image U-Net and the temporal layers.

    Args:
        source: folder with `unet/`, or of the U-Net alone.
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
        manifest = Manifest(
            name=target.name,
            family="video_ldm",
            licence=folder.licence(),
            job=LAYERS,
            scale=LATENT_CELL,
            prediction_type=predicts,
            defaults=GeneratorDefaults(
                steps=25,
                window=folder.config("unet").get("num_frames", NUM_FRAMES),
                key_frame_rate=7.0,
                width=1024,
                height=576,
            ),
        )
        return writer.finish(manifest)


def _site(path: str) -> str:
    return path.replace(".", "/")


def _blocks_of(state: Mapping[str, Tensor], transformer: str) -> list[str]:
    pattern = re.compile(re.escape(transformer) + r"\.temporal_transformer_blocks\.(\d+)\..+")
    return sorted({found[1] for key in state if (found := pattern.fullmatch(key))})


def _flat(block: str) -> str:
    """Return the image block of a block's name."""
    return block.replace("SpatioTemporal", "2D")
