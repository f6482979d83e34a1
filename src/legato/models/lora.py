"""LoRA weights added to a U-Net: W + s (alpha / rank) B A.

Hu et al. 2021, arXiv:2106.09685, section 4.1. Names of diffusers, of peft and of kohya's trainer
are read; the weights are merged, so that the U-Net runs as before.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from legato.errors import InputError, ModelError
from legato.models.folder import read_weights

SIDES = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
"""Ends of names, and what they are: A maps down to the rank, B up from it."""
U_NET, TEXT = ("base_model.model.", "unet.", "lora_unet_"), ("text_encoder", "lora_te")
"""Beginnings of names."""


@dataclass(kw_only=True)
class Pair:
    """What is added to one layer."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def change(self) -> Tensor:
        """Return (alpha / rank) B A as rows of outputs, float32."""
        up, down = (self.tensors[side].float().flatten(1) for side in ("up", "down"))
        rank = len(down)
        alpha = float(self.tensors.get("alpha", torch.tensor(float(rank))))
        return (alpha / rank) * (up @ down)


def add_lora_(unet: nn.Module, path: Path, *, scale: float) -> list[str]:
    """Add the weights of a file to a U-Net, in place.

    Args:
        unet: of diffusers.
        path: a safetensors file.
        scale: how strongly; 1 is as trained.

    Returns:
        Sentences about what of the file is not used.

    Raises:
        InputError: there is no such file.
        ModelError: it is damaged, holds no LoRA, or one for another kind of model.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"lora {path}", why="there is no such file", fix="name a safetensors file")
    pairs, notices = lora_pairs(path, read_weights(path))
    layers = {
        name.replace(".", "_"): module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    for name, pair in pairs.items():
        layer = layers.get(name)
        if layer is None or not _fits(layer, pair):
            found = "has no such layer" if layer is None else "has another width there"
            raise ModelError(
                f"lora {path}: {name}",
                why=f"the model {found}",
                fix="use weights that were trained for this kind of model",
            )
        weight = layer.weight
        change = scale * pair.change().reshape(weight.shape).to(weight.device)
        weight.data = (weight.data.float() + change).to(weight.dtype)
    return notices


def lora_pairs(path: Path, state: Mapping[str, Tensor]) -> tuple[dict[str, Pair], list[str]]:
    """Return what is added to each layer, by its name with underscores, and what is left out.

    Raises:
        ModelError: a name is not understood, half of a pair is missing, or there is none.
    """
    pairs: dict[str, Pair] = {}
    num_text = 0
    for key, tensor in state.items():
        if key.startswith(TEXT):
            num_text += 1
            continue
        end = next((end for end in SIDES if key.endswith(end)), None)
        if end is None:
            raise _not_understood(path, key)
        pairs.setdefault(_layer_of(key.removesuffix(end)), Pair()).tensors[SIDES[end]] = tensor
    for name, pair in pairs.items():
        if not {"up", "down"} <= set(pair.tensors):
            raise _not_understood(path, name)
    if not pairs:
        raise _not_understood(path, "no weights of a U-Net")
    notices = [f"{path.name}: its weights for the text encoder are left out"] if num_text else []
    return pairs, notices


def _layer_of(name: str) -> str:
    for start in U_NET:
        name = name.removeprefix(start)
    name = name.replace(".processor.", ".").replace(".", "_")
    return re.sub(r"(attn[12])_to_out$", r"\1_to_out_0", name)


def _fits(layer: nn.Linear | nn.Conv2d, pair: Pair) -> bool:
    rows, cols = layer.weight.shape[0], layer.weight[0].numel()
    up, down = (pair.tensors[side].flatten(1) for side in ("up", "down"))
    return (len(up), down.shape[1], up.shape[1]) == (rows, cols, len(down))


def _not_understood(path: Path, name: str) -> ModelError:
    return ModelError(
        f"lora {path}: {name}",
        why="that is not understood",
        fix="use LoRA weights of diffusers, peft or kohya for the U-Net",
    )
