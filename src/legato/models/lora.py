"""LoRA weights added to a U-Net and its text encoder: W + s (alpha / rank) B A.

Hu et al. 2021, arXiv:2106.09685, section 4.1. Names of diffusers, of peft and of kohya's trainer
are read; the weights are merged, so that both run as before.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
STARTS = ("base_model.model.", "unet.", "lora_unet_", "text_encoder.", "lora_te_")
"""Beginnings of names."""
TEXT_STARTS = ("text_encoder.", "lora_te_", "base_model.model.text_model.")
TWO_ENCODERS = ("text_encoder_2", "lora_te1_", "lora_te2_")
"""Of models with two text encoders, as Stable Diffusion XL."""
OLD_TEXT_NAMES = {f"_to_{part}": f"_{part}_proj" for part in ("q", "k", "v", "out")}
"""Of a text encoder's attention: old diffusers name -> its own."""
FOR_ANOTHER = "use weights that were trained for this kind of model"

Part = Literal["U-Net", "text encoder"]


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


def add_lora_(unet: nn.Module, text: ClipText | None, path: Path, *, scale: float) -> None:
    """Add the weights of a file to a U-Net and to a text encoder, in place.

    Args:
        unet: of diffusers.
        text: what embeds its prompts; None: no text encoder of CLIP.
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
    _merge_(unet, pairs["U-Net"], "U-Net", path, scale)
    if not pairs["text encoder"]:
        return
    if text is None:
        raise ModelError(
            f"lora {path} changes a text encoder", why="the model has none", fix=FOR_ANOTHER
        )
    part: Part = "text encoder"
    text.change_(lambda encoder: _merge_(encoder, pairs[part], part, path, scale))


def lora_pairs(path: Path, state: Mapping[str, Tensor]) -> Mapping[Part, Pairs]:
    """Return what is added to the layers of each part.

    Raises:
        ModelError: a name is not understood, half of a pair is missing or is no matrix, there is
            none, or one is not finite.
    """
    found: dict[Part, dict[str, Pair]] = {"U-Net": {}, "text encoder": {}}
    for key, tensor in state.items():
        if key.startswith(TWO_ENCODERS):
            raise ModelError(
                f"lora {path}: {key}",
                why="that is of a model with two text encoders, as Stable Diffusion XL has them",
                fix=FOR_ANOTHER,
            )
        part: Part = "text encoder" if key.startswith(TEXT_STARTS) else "U-Net"
        end = next((end for end in SIDES if key.endswith(end)), None)
        if end is None:
            raise _not_understood(path, key)
        layer = _layer_of(key.removesuffix(end), part)
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
    for start in STARTS:
        name = name.removeprefix(start)
    name = name.replace(".processor.", ".").replace(".", "_")
    if part == "U-Net":
        return re.sub(r"(attn[12])_to_out$", r"\1_to_out_0", name)
    for old, new in OLD_TEXT_NAMES.items():
        name = re.sub(f"{old}$", new, name)
    return name.removeprefix("text_model_")


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
