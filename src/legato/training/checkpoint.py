"""Everything a training run needs to go on exactly, in one safetensors file."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from legato.errors import ModelError, first_sentence
from legato.tensor_file import save_tensors
from legato.training.ema import Ema


def save_checkpoint(
    path: Path, *, step: int, module: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer
) -> None:
    """Write weights, averages and optimizer state; the old file stays until the new is whole."""
    tensors: dict[str, Tensor] = {f"module/{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"ema/{k}": v for k, v in ema.average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    run = {"step": step, "updates": ema.updates}
    save_tensors(tensors, path, metadata={"run": json.dumps(run)})


def load_checkpoint(
    path: Path, *, module: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer
) -> int:
    """Restore what `save_checkpoint` wrote in place; return the step to go on from.

    Raises:
        ModelError: it is damaged, or that of another network.
    """
    try:
        return _load(path, module, ema, optimizer)
    except (SafetensorError, OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"checkpoint {path}",
            why=f"it cannot be continued ({first_sentence(error)})",
            fix="remove it to begin this stage anew",
        ) from error


def _load(path: Path, module: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer) -> int:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Any]] = {}
    weights: dict[str, Tensor] = {}
    with safe_open(path, "pt") as file:
        run = json.loads(file.metadata()["run"])
        for key in file.keys():  # noqa: SIM118 - not a mapping
            room, _, name = key.partition("/")
            if room == "module":
                weights[name] = file.get_tensor(key)
            elif room == "ema":
                ema.average[name].copy_(file.get_tensor(key))
            else:
                index, _, field = name.partition("/")
                value = _laid_out_as(parameters[int(index)], file.get_tensor(key))
                states.setdefault(int(index), {})[field] = value
    module.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    ema.updates = run["updates"]
    return int(run["step"])


def _laid_out_as(parameter: Tensor, state: Tensor) -> Tensor:
    """Give state of a parameter's shape its memory layout: fused optimizers assume that it has."""
    return torch.empty_like(parameter).copy_(state) if state.shape == parameter.shape else state
