"""AnimateDiff's motion modules into temporal layers of the family `animatediff`.

Two layouts are read: a folder of diffusers' `MotionAdapter`, and the authors' single file (`.ckpt`
or `.safetensors`). Only names are mapped; no number is changed. Alone they become a folder of
temporal layers for any U-Net of their topology; with a base, a whole model.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from legato.errors import ModelError
from legato.models.convert.foreign import UNKNOWN_LICENCE, ForeignFolder
from legato.models.convert.pickles import read_pickle
from legato.models.decoder import TemporalDecoder
from legato.models.families import AnimateDiffOptions
from legato.models.folder import TEXT_WEIGHTS, FolderWriter, read_json, read_weights
from legato.models.inflate import VideoModel, check_state, inflate
from legato.models.manifest import GeneratorDefaults, Manifest
from legato.models.parts import (
    SCHEDULE,
    load_autoencoder,
    load_image_unet,
)
from legato.models.positions import interleaved_sinusoids
from legato.models.save import write_decoder, write_temporal, write_unet

STABLE_DIFFUSION = (320, 640, 1280, 1280)
"""Widths of Stable Diffusion 1 and 2."""
TEXT_WIDTH = 768
"""Of Stable Diffusion 1; Stable Diffusion 2, which has the same widths, reads 1024."""
SD15_CONFIG: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": STABLE_DIFFUSION,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 8,
}
SCHEDULE_VALUES: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""Of the motion modules' training: linear, where the image model's is `scaled_linear`."""
NUM_FRAMES = 16
"""Of a clip in training."""
ORIGINAL_NAMES = (
    ("module.", ""),
    (".temporal_transformer.", "."),
    (".attention_blocks.0.pos_encoder.", ".pos_embed."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
)
"""Parts of the authors' names and of diffusers'."""
MODULE = re.compile(r"((?:down|up)_blocks\.\d+|mid_block)\.motion_modules\.(\d+)\.(.+)")


def convert_animatediff(
    source: Path, target: Path, *, base: Path | None = None, dtype: torch.dtype = torch.float16
) -> Manifest:
    """Write a folder of temporal layers, or of a whole model.

    Args:
        source: folder of a `MotionAdapter`, or the authors' file.
        target: folder to write.
        base: folder in diffusers layout of the image model, or of its U-Net; None: the temporal
            layers are written alone, for Stable Diffusion 1.5 and what was made from it.
        dtype: precision of what is written.

    Raises:
        ModelError: a file is missing, damaged, or does not fit the base.
        InputError: the target is a folder of something else.
    """
    config, state, licence = _read(source)
    image = ForeignFolder(base) if base else None
    unet = load_image_unet(image) if image else _stable_diffusion()
    model = build_unet(unet, config, state)
    with FolderWriter(target) as writer:
        if image is None:
            write_temporal(writer, model, dtype)
        else:
            write_unet(writer, model, dtype)
            _write_others(writer, image, dtype)
        writer.write_json(f"scheduler/{SCHEDULE}", SCHEDULE_VALUES)
        manifest = Manifest(
            name=target.name,
            family="animatediff",
            licence=licence,
            job="generate",
            scale=8,
            prediction_type=SCHEDULE_VALUES["prediction_type"],
            defaults=GeneratorDefaults(
                guidance_scale=7.5, window=NUM_FRAMES, key_frame_rate=8.0, width=512, height=512
            ),
        )
        return writer.finish(manifest)


def build_unet(
    unet: UNet2DConditionModel, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> VideoModel:
    """Return a U-Net with the motion modules that a configuration and state describe.

    Args:
        unet: the image model; kept, not copied.
        config: of diffusers' `MotionAdapter`; of the authors' file, empty.
        state: weights under diffusers' names.

    Raises:
        ModelError: the modules belong to another image model, or a parameter does not fit.
    """
    require_fit(unet, _widths(state))
    options = _options(config, state)
    with torch.device("meta"):
        model = inflate(unet, "animatediff", **asdict(options))
    named = _at_sites(model, state)
    check_state(named, model.temporal.state_dict(), what="motion modules")
    model.temporal.load_state_dict(named, assign=True)
    return model


def require_fit(unet: UNet2DConditionModel, widths: tuple[int, ...]) -> None:
    """Refuse an image model that motion modules of these widths were not made for.

    Raises:
        ModelError: its widths differ, it is Stable Diffusion 2, or it is SDXL.
    """
    config: Any = unet.config
    theirs = tuple(config.block_out_channels)
    made_for, why = f"motion modules of the widths {', '.join(map(str, widths))}", ""
    if theirs != widths:
        why = f"the U-Net has the widths {', '.join(map(str, theirs))}"
    elif config.addition_embed_type is not None:
        why = "the U-Net also reads picture sizes, as that of SDXL does, which is not supported"
    elif widths == STABLE_DIFFUSION and config.cross_attention_dim != TEXT_WIDTH:
        why = f"they need Stable Diffusion 1, whose text is {TEXT_WIDTH} wide; this U-Net's is "
        why += f"{config.cross_attention_dim} wide, as that of Stable Diffusion 2"
    if why:
        raise ModelError(
            f"{made_for} do not belong to this image model",
            why=why,
            fix="give the image model that they were trained on with --base, in most cases Stable "
            "Diffusion 1.5 or one made from it",
        )


def with_new_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of the authors' file as diffusers does."""
    renamed = {}
    for key, value in state.items():
        for old, new in ORIGINAL_NAMES:
            key = key.removeprefix(old) if not new else key.replace(old, new)
        renamed[key] = value
    return {key: value for key, value in renamed.items() if ".pos_encoder." not in key}


def _read(source: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Return the configuration, the state under diffusers' names, and the licence."""
    if source.is_dir():
        folder = ForeignFolder(source)
        return read_json(source / "config.json"), folder.weights("."), folder.licence()
    is_safe = source.suffix.lower() == ".safetensors"
    original = read_weights(source) if is_safe else read_pickle(source)
    state = with_new_names(original)
    if not any(MODULE.fullmatch(key) for key in state):
        raise ModelError(
            f"{source} holds no motion modules",
            why=f"none of its {len(state)} names has motion_modules in it",
            fix="give the authors' motion module, such as mm_sd_v15_v2.ckpt",
        )
    return {}, state, UNKNOWN_LICENCE


def _stable_diffusion() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**SD15_CONFIG)


def _widths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    found = {}
    for key, value in state.items():
        if key.startswith("down_blocks.") and key.endswith(".motion_modules.0.norm.weight"):
            found[int(key.split(".")[1])] = len(value)
    return tuple(found[index] for index in sorted(found))


def _options(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> AnimateDiffOptions:
    if config.get("conv_in_channels"):
        raise ModelError(
            "these motion modules come with an input layer of their own",
            why=f"it takes {config['conv_in_channels']} channels, as that of PIA",
            fix="use motion modules without one",
        )
    places = [MODULE.fullmatch(key) for key in state]
    blocks = {found[3].split(".")[1] for found in places if found and "blocks." in found[3]}
    tables = [value for key, value in state.items() if key.endswith(".pos_embed.pe")]
    for table in tables:
        _require_sinusoids(table)
    heads = config.get("motion_num_attention_heads", 8)
    if not isinstance(heads, int):
        if len(set(heads)) != 1:
            raise ModelError(
                f"motion_num_attention_heads={heads}",
                why="one number for all motion modules is understood",
                fix="use motion modules that have the same number of heads at every level",
            )
        heads = heads[0]
    most = tables[0].shape[1] if tables else config.get("motion_max_seq_length", 32)
    return AnimateDiffOptions(
        num_heads=heads,
        num_blocks=len(blocks),
        norm_groups=config.get("motion_norm_num_groups", 32),
        max_frames=most,
        mid_block=any(key.startswith("mid_block.") for key in state),
    )


def _require_sinusoids(table: Tensor) -> None:
    wanted = interleaved_sinusoids(table.shape[1], table.shape[2], torch.device("cpu"))
    if (table[0].float() - wanted).abs().max() > 1e-2:  # stored in half precision by some
        raise ModelError(
            "these motion modules have positions of their own",
            why="they differ from the sinusoids of the frame index",
            fix="use motion modules in the published form",
        )


def _at_sites(model: VideoModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename `BLOCK.motion_modules.J.NAME` to the J-th site of the block."""
    sites = defaultdict(list)
    for site in model.sites:
        parts = site.path.split(".")
        sites[parts[0] if parts[0] == "mid_block" else ".".join(parts[:2])].append(site.key)
    named = {}
    for key, value in state.items():
        found = MODULE.fullmatch(key)
        keys = sites[found[1]] if found else []
        if found and found[3].endswith("pos_embed.pe"):
            continue
        index = int(found[2]) if found else 0
        named[f"{keys[index]}.{found[3]}" if found and index < len(keys) else key] = value
    return named


def _write_others(writer: FolderWriter, image: ForeignFolder, dtype: torch.dtype) -> None:
    """Write the base's other parts where it has them."""
    if image.has("vae"):
        decoder = load_autoencoder(image)
        assert isinstance(decoder, TemporalDecoder)
        write_decoder(writer, decoder, dtype)
    if image.has("text_encoder"):
        config, state = image.config("text_encoder"), image.weights("text_encoder")
        writer.write_part("text_encoder", config, state, dtype=dtype, weights=TEXT_WEIGHTS)
        writer.copy(image.path("tokenizer"), "tokenizer")
