"""Upscale-A-Video's released files into a model folder.

The reference keeps image and temporal layers in one network of its own; here the image layers
become a plain `UNet2DConditionModel` and `AutoencoderKL`, the rest the temporal layers of the
family `upscale_a_video` and of a `TemporalDecoder`. Only names are mapped; no number is changed.
"""

import re
from typing import Any

from torch import Tensor

from legato.models.load import with_new_attention_names

UNET_CONFIG: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 7,
    "out_channels": 4,
    "block_out_channels": (256, 512, 512, 1024),
    "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
    "only_cross_attention": (True, True, True, False),
    "cross_attention_dim": 1024,
    "attention_head_dim": 8,
    "use_linear_projection": True,
    "num_class_embeds": 1000,
}
"""Of the image part. `attention_head_dim` is the number of heads: diffusers' old misnomer, kept."""

AUTOENCODER_CONFIG: dict[str, Any] = {
    "block_out_channels": (128, 256, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.08333,
    "sample_size": 256,
}
"""Of the image part of both decoders."""

CONDITION_CHANNELS = 128
"""Width of the low-resolution features in `vae_video`."""

SPATIAL, TEMPORAL = "spatial", "temporal"
TEMPORAL_RULES = (
    (re.compile(r"(.+)\.resblock_temporal\.(.+)"), r"\1|\2"),
    (re.compile(r"(.+)\.((?:attn|norm)_temporal\..+)"), r"\1|\2"),
    (re.compile(r"(down|up)_temp_blocks\.(\d+)\.(.+)"), r"\1_blocks.\2|\3"),
    (re.compile(r"mid_temp_block\.(.+)"), r"mid_block|\1"),
    (re.compile(r"(decoder\..+)\.((?:norm|conv)_3d\..+)"), r"\1|\2"),
    (re.compile(r"decoder\.(condition_(?:in|fuse)\..+)"), r"decoder.conv_in|\1"),
)
"""Reference name -> site | parameter; the first that matches counts."""


def place(key: str) -> tuple[str, str] | None:
    """Return where a reference parameter goes: (`spatial` or `temporal`, name); None: nowhere.

    Rotary frequencies are the one thing that the reference stores and nothing here needs.
    """
    if key.endswith("freqs"):
        return None
    if key.startswith("decoder.condition_in."):
        return TEMPORAL, key.replace("decoder.", "decoder/conv_in.", 1)
    for pattern, template in TEMPORAL_RULES:
        match = pattern.fullmatch(key)
        if match:
            site, parameter = match.expand(template).split("|")
            return TEMPORAL, f"{site.replace('.', '/')}.{parameter}"
    return SPATIAL, key


def split(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the image part and the temporal part of a reference state, renamed."""
    parts: dict[str, dict[str, Tensor]] = {SPATIAL: {}, TEMPORAL: {}}
    for key, value in state.items():
        target = place(key)
        if target is not None:
            parts[target[0]][target[1]] = value
    return with_new_attention_names(parts[SPATIAL]), parts[TEMPORAL]
