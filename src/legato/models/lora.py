"""LoRA weights added to a U-Net and its text encoder: W + s (alpha / rank) B A.

Hu et al. 2021, arXiv:2106.09685, section 4.1. Names of diffusers, of peft and of kohya's trainer
are read; the weights are merged, so that both run as before.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from legato.errors import InputError, ModelError
from legato.models.folder import read_weights
from legato.models.text_encoder import ClipText

SIDES = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
"""Ends of names, and what they are: A maps down to the rank, B up from it."""
STARTS: dict[str, "Part"] = {
    "base_model.model.text_model.": "text encoder",
    "base_model.model.": "U-Net",
    "unet.": "U-Net",
    "lora_unet_": "U-Net",
    "text_encoder.": "text encoder",
    "lora_te_": "text encoder",
    "lora_te1_": "text encoder",
    "text_encoder_2.": "second text encoder",
    "lora_te2_": "second text encoder",
}
"""Beginnings of names; what has none of them is of the U-Net."""
OLD_RESNET_NAMES = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "input_blocks_0_0": "conv_in",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
    "out_2": "conv_out",
}
"""Names of the released checkpoints -> diffusers'."""
OLD_TEXT_NAMES = {f"_to_{part}": f"_{part}_proj" for part in ("q", "k", "v", "out")}
"""Of a text encoder's attention: old diffusers name -> its own."""
FOR_ANOTHER = "use weights that were trained for this kind of model"

Part = Literal["U-Net", "text encoder", "second text encoder"]
TEXTS: tuple[Part, Part] = ("text encoder", "second text encoder")


@dataclass(kw_only=True)
class Pair:
    """What is added to one layer."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether both sides are there, as matrices of rank 1 or more, and alpha is one number."""
        sides = [self.tensors.get(side) for side in ("up", "down")]
        matrices = all(side is not None and side.ndim > 1 and side.numel() > 0 for side in sides)
        return matrices and self.tensors.get("alpha", torch.tensor(1.0)).numel() == 1

    def change(self) -> Tensor:
        """Return (alpha / rank) B A as rows of outputs, float32."""
        up, down = (self.tensors[side].float().flatten(1) for side in ("up", "down"))
        rank = len(down)
        alpha = float(self.tensors.get("alpha", torch.tensor(float(rank))))
        return (alpha / rank) * (up @ down)


Pairs = Mapping[str, Pair]
"""What is added to each layer, by its name with underscores."""


def add_lora_(unet: nn.Module, texts: Sequence[ClipText], path: Path, *, scale: float) -> None:
    """Add the weights of a file to a U-Net and to text encoders, in place.

    Args:
        unet: of diffusers.
        texts: what embeds its prompts: encoders of CLIP, or none.
        path: a safetensors file.
        scale: how strongly; 1 is as trained.

    Raises:
        InputError: there is no such file.
        ModelError: it is damaged, holds no LoRA, or one for another kind of model.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"lora {path}", why="there is no such file", fix="name a safetensors file")
    pairs = lora_pairs(path, read_weights(path))
    for part in TEXTS[len(texts) :]:
        if pairs[part]:
            why = f"the model has {len(texts) or 'none'}"
            raise ModelError(f"lora {path} changes a {part}", why=why, fix=FOR_ANOTHER)
    _merge_(unet, pairs["U-Net"], "U-Net", path, scale)
    for part, text in zip(TEXTS, texts, strict=False):
        if pairs[part]:
            text.change_(partial(_merge_, pairs=pairs[part], part=part, path=path, scale=scale))


def lora_pairs(path: Path, state: Mapping[str, Tensor]) -> Mapping[Part, Pairs]:
    """Return what is added to the layers of each part.

    Raises:
        ModelError: a name is not understood, half of a pair is missing or is no matrix, there is
            none, or one is not finite.
    """
    found: dict[Part, dict[str, Pair]] = {part: {} for part in ("U-Net", *TEXTS)}
    for key, tensor in state.items():
        start, part = next(
            ((start, part) for start, part in STARTS.items() if key.startswith(start)),
            ("", STARTS["unet."]),
        )
        end = next((end for end in SIDES if key.endswith(end)), None)
        if end is None:
            raise _not_understood(path, key)
        layer = _layer_of(key.removeprefix(start).removesuffix(end), part)
        found[part].setdefault(layer, Pair()).tensors[SIDES[end]] = tensor
    for pairs in found.values():
        for name, pair in pairs.items():
            if not pair.is_whole:
                raise _not_understood(path, name)
            if not all(bool(tensor.isfinite().all()) for tensor in pair.tensors.values()):
                raise ModelError(
                    f"lora {path}: {name}", why="it holds NaN or infinity", fix="use other weights"
                )
    if not any(found.values()):
        raise _not_understood(path, "no weights")
    return found


def _layer_of(name: str, part: Part) -> str:
    name = name.replace(".processor.", ".").replace(".", "_")
    if part == "U-Net":
        return re.sub(r"(attn[12])_to_out$", r"\1_to_out_0", with_new_block_names(name))
    for old, new in OLD_TEXT_NAMES.items():
        name = re.sub(f"{old}$", new, name)
    return name.removeprefix("text_model_")


def with_new_block_names(name: str, layers_per_block: int = 2) -> str:
    """Return a U-Net layer's name in diffusers' terms, given that or the released checkpoints'.

    Those number all layers of one side in a row, as most LoRA files for Stable Diffusion XL do.

    Args:
        name: with underscores, such as `input_blocks_4_1_proj_in`.
        layers_per_block: of the U-Net; 2 in all of Stable Diffusion.
    """
    for old, new in OLD_RESNET_NAMES.items():
        name = name.replace(old, new)
    if middle := re.fullmatch(r"middle_block_([012])_(.+)", name):
        return f"mid_block_{('resnets_0', 'attentions_0', 'resnets_1')[int(middle[1])]}_{middle[2]}"
    outer = re.fullmatch(r"(input|output)_blocks_(\d+)_(\d)_(.+)", name)
    if outer is None:
        return ENDS.get(name, name)
    side = "down" if outer[1] == "input" else "up"
    block, layer = divmod(int(outer[2]) - (side == "down"), layers_per_block + 1)
    if outer[4] in ("op", "conv"):
        return f"{side}_blocks_{block}_{side}samplers_0_conv"
    kind = "resnets" if outer[3] == "0" else "attentions"
    return f"{side}_blocks_{block}_{kind}_{layer}_{outer[4]}"


def _merge_(module: nn.Module, pairs: Pairs, part: Part, path: Path, scale: float) -> None:
    layers = {
        name.replace(".", "_").removeprefix("text_model_"): layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    for name, pair in pairs.items():
        layer = layers.get(name)
        if layer is None or not _fits(layer, pair):
            found = "has no such layer" if layer is None else "has another width there"
            raise ModelError(
                f"lora {path}: {name}", why=f"the model's {part} {found}", fix=FOR_ANOTHER
            )
    for name, pair in pairs.items():
        weight = layers[name].weight
        change = scale * pair.change().reshape(weight.shape).to(weight.device)
        weight.data = (weight.data.float() + change).to(weight.dtype)


def _fits(layer: nn.Linear | nn.Conv2d, pair: Pair) -> bool:
    rows, cols = layer.weight.shape[0], layer.weight[0].numel()
    up, down = (pair.tensors[side].flatten(1) for side in ("up", "down"))
    return (len(up), down.shape[1], up.shape[1]) == (rows, cols, len(down))


def _not_understood(path: Path, name: str) -> ModelError:
    return ModelError(
        f"lora {path}: {name}",
        why="that is not understood",
        fix="use LoRA weights of diffusers, peft or kohya for U-Net and text encoder",
    )
