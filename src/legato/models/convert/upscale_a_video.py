"""Upscale-A-Video's released files into a model folder.

The reference keeps image and temporal layers in one network of its own; here the image layers
become a plain `UNet2DConditionModel` and `AutoencoderKL`, the rest the temporal layers of the
family `upscale_a_video` and of a `TemporalDecoder`. Only names are mapped; no number is changed.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from legato.errors import ModelError
from legato.models.convert.foreign import ForeignFolder
from legato.models.convert.pickles import read_pickle
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.folder import read_json
from legato.models.inflate import Inflated, VideoModel, check_state, inflate
from legato.models.manifest import Manifest, UpscalerDefaults
from legato.models.parts import with_new_attention_names
from legato.models.save import UpscalerParts, save_upscaler

UNET_CONFIG: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 7,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
    "only_cross_attention": (True, True, True, False),
    "use_linear_projection": True,
    "num_class_embeds": 1000,
}
"""Of the image part, but for widths and heads, which the weights tell."""

AUTOENCODER_CONFIG: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.08333,
    "sample_size": 256,
}
"""Of the image part of both decoders, but for widths."""

MANIFEST = Manifest(
    name="upscale-a-video",
    family="upscale_a_video",
    licence="NTU S-Lab 1.0 (non-commercial)",
    defaults=UpscalerDefaults(
        steps=30,
        noise_level=120,
        max_noise_level=350,
        guidance_scale=6.0,
        window=8,
        overlap=2,
        decoder_context=1,
    ),
)
"""Defaults of the reference's command line; its decoder runs on three frames at a time."""

SPATIAL, TEMPORAL = "spatial", "temporal"
TEMPORAL_RULES = (
    (re.compile(r"(.+)\.resblock_temporal\.(.+)"), r"\1|\2"),
    (re.compile(r"(.+)\.((?:attn|norm)_temporal\..+)"), r"\1|\2"),
    (re.compile(r"(down|up)_temp_blocks\.(\d+)\.(.+)"), r"\1_blocks.\2|\3"),
    (re.compile(r"mid_temp_block\.(.+)"), r"mid_block|\1"),
    (re.compile(r"(decoder\..+)\.((?:norm|conv)_3d\..+)"), r"\1|\2"),
)
"""Reference name -> site | parameter; the first that matches counts."""


def place(key: str) -> tuple[str, str] | None:
    """Return where a reference parameter goes: (`spatial` or `temporal`, name); None: nowhere.

    Rotary frequencies are the one thing that the reference stores and nothing here needs.
    """
    if key.endswith("freqs"):
        return None
    if key.startswith("decoder.condition_"):
        return TEMPORAL, key.replace("decoder.", "decoder/conv_in.", 1)
    for pattern, template in TEMPORAL_RULES:
        match = pattern.fullmatch(key)
        if match:
            site, parameter = match.expand(template).split("|")
            return TEMPORAL, f"{site.replace('.', '/')}.{parameter}"
    return SPATIAL, key


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the image part and the temporal part of a reference state, renamed."""
    parts: dict[str, dict[str, Tensor]] = {SPATIAL: {}, TEMPORAL: {}}
    for key, value in state.items():
        target = place(key)
        if target is not None:
            parts[target[0]][target[1]] = value
    return with_new_attention_names(parts[SPATIAL]), parts[TEMPORAL]


def build_unet(state: Mapping[str, Tensor]) -> VideoModel:
    """Return the U-Net that a reference state belongs to, filled with it.

    Raises:
        ModelError: a parameter is missing, unknown or of another shape.
    """
    bias = "down_blocks.1.attentions.0.transformer_blocks.0.attn_temporal.time_rel_pos_bias"
    text = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    with _weights_tell("the U-Net"):
        config = UNET_CONFIG | {
            "block_out_channels": _widths(state, "down_blocks", 4),
            "attention_head_dim": state[f"{bias}.relative_attention_bias.weight"].shape[1],
            "cross_attention_dim": state[text].shape[1],
        }
    with torch.device("meta"):
        unet = inflate(UNet2DConditionModel(**config), "upscale_a_video")
    _fill(unet, state, "the U-Net")
    return unet


def build_decoder(state: Mapping[str, Tensor]) -> TemporalDecoder:
    """Return the decoder that a reference state belongs to, `vae_3d` or `vae_video`, filled.

    Raises:
        ModelError: a parameter is missing, unknown or of another shape.
    """
    condition = state.get("decoder.condition_in.0.conv1.weight")
    with _weights_tell("the decoder"):
        config = AUTOENCODER_CONFIG | {
            "block_out_channels": _widths(state, "encoder.down_blocks", 3)
        }
    options = TemporalDecoderOptions(
        conv="none" if condition is None else "volume",
        condition_channels=None if condition is None else condition.shape[0],
        norm_stats="clip",
    )
    with torch.device("meta"):
        decoder = TemporalDecoder(AutoencoderKL(**config), options)
    _fill(decoder, state, "the decoder")
    return decoder


def convert_upscale_a_video(
    source: Path,
    target: Path,
    *,
    decoder: Literal["vae_video", "vae_3d"] = "vae_video",
    dtype: torch.dtype = torch.float16,
) -> Manifest:
    """Write a model folder from the released files.

    Args:
        source: folder with `unet/unet_video.bin`, `vae/vae_video.bin`, `scheduler/`,
            `low_res_scheduler/`, `text_encoder/` and `tokenizer/`.
        target: folder to write.
        decoder: the temporal decoder of the paper, or the per-frame one.
        dtype: precision of what is written.

    Raises:
        ModelError: a file is missing, is no plain pickle of tensors, or does not fit.
        InputError: the target is a folder of something else.
    """
    schedules = [
        read_json(source / part / "scheduler_config.json")
        for part in ("scheduler", "low_res_scheduler")
    ]
    parts = UpscalerParts(
        unet=build_unet(read_pickle(source / "unet" / "unet_video.bin")),
        autoencoder=build_decoder(read_pickle(source / "vae" / f"{decoder}.bin")),
        text=ForeignFolder(source),
        schedule=schedules[0],
        low_res_schedule=schedules[1],
    )
    return save_upscaler(target, parts, MANIFEST, dtype=dtype)


def _widths(state: Mapping[str, Tensor], blocks: str, count: int) -> tuple[int, ...]:
    keys = (f"{blocks}.{index}.resnets.0.conv1.weight" for index in range(count))
    return tuple(state[key].shape[0] for key in keys)


@contextmanager
def _weights_tell(what: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"{what} is not Upscale-A-Video's", why=f"it lacks {error}", fix="use the released file"
        ) from error


def _fill(model: Inflated, state: Mapping[str, Tensor], what: str) -> None:
    spatial, temporal = split(state)
    check_state(spatial, model.spatial.state_dict(), what=f"image weights of {what}")
    check_state(temporal, model.temporal.state_dict(), what=f"temporal weights of {what}")
    model.spatial.load_state_dict(spatial, assign=True)
    model.temporal.load_state_dict(temporal, assign=True)
