"""RAFT, an optical flow network, from torchvision: slower than DIS, better on large motion.

Teed and Deng 2020, arXiv:2003.12039. An extra: needs torchvision and a weights file. torchvision is
built for one build of torch; beside another, such as a CPU build, it loads once two operators that
its import looks for are declared. RAFT uses neither.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from legato.errors import ModelError, ResourceError
from legato.tensor_file import save_tensors
from legato.torchvision_operators import declare_missing

MIN_SIDE = 128  # the coarsest of four correlation levels must be two cells wide
MULTIPLE = 8
NUM_UPDATES = 20
CORRELATION_COPIES = 2  # of the finest level, while it is scaled
ENCODER_BYTES = 2048  # of every pixel of a pair, both ways at once, measured

ENCODERS = {"fnet": "feature_encoder", "cnet": "context_encoder"}
LAYERS = {
    "conv1": "convnormrelu.0",
    "norm1": "convnormrelu.1",
    "conv2": "conv",
}
BLOCK_LAYERS = {
    "conv1": "convnormrelu1.0",
    "norm1": "convnormrelu1.1",
    "conv2": "convnormrelu2.0",
    "norm2": "convnormrelu2.1",
}
UPDATE = {
    "encoder.convc1": "motion_encoder.convcorr1.0",
    "encoder.convc2": "motion_encoder.convcorr2.0",
    "encoder.convf1": "motion_encoder.convflow1.0",
    "encoder.convf2": "motion_encoder.convflow2.0",
    "encoder.conv": "motion_encoder.conv.0",
    "flow_head.conv1": "flow_head.conv1",
    "flow_head.conv2": "flow_head.conv2",
} | {
    f"gru.conv{gate}{turn}": f"recurrent_block.convgru{turn}.conv{gate}"
    for gate in "zrq"
    for turn in "12"
}
MASK = {"mask.0": "mask_predictor.convrelu.0", "mask.2": "mask_predictor.conv"}


class RaftFlow:
    """Estimates flow with a RAFT network; frames of any size are padded, never resized.

    Args:
        network: torchvision's `raft_large`, ready.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(
        self, frames: Float[Tensor, "T 3 H W"]
    ) -> tuple[Float[Tensor, "K 2 H W"], Float[Tensor, "K 2 H W"]]:
        """Return (flow_forward, flow_backward) as `FlowEstimator` says; on the CPU."""
        rows, cols = frames.shape[-2:]
        parameter = next(self._network.parameters())
        padded = _padded(frames.to(parameter))
        forward, backward = [torch.zeros(0, 2, rows, cols)], [torch.zeros(0, 2, rows, cols)]
        for k in range(frames.shape[0] - 1):
            first, second = padded[k : k + 1], padded[k + 1 : k + 2]
            both = self._network(
                torch.cat((first, second)),
                torch.cat((second, first)),
                num_flow_updates=NUM_UPDATES,
            )[-1]
            flows = both[..., :rows, :cols].float().cpu()
            forward.append(flows[:1])
            backward.append(flows[1:])
        return torch.cat(forward), torch.cat(backward)


def bytes_of_pair(rows: int, cols: int) -> int:
    """Return about what the flow of two frames takes, both ways: all places against all others."""
    rows, cols = (max(MIN_SIDE, side) for side in (rows, cols))
    cells = -(-rows // MULTIPLE) * -(-cols // MULTIPLE)
    return CORRELATION_COPIES * 2 * 4 * cells**2 + ENCODER_BYTES * rows * cols


def load_raft(path: str | Path, *, device: torch.device) -> RaftFlow:
    """Return RAFT with weights in the original's or torchvision's naming.

    Args:
        path: a safetensors file.
        device: where to compute.

    Raises:
        ModelError: the file is missing, damaged, or not RAFT's.
        ResourceError: torchvision is not installed.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"RAFT weights {path}",
            why=f"they cannot be read as safetensors ({error})",
            fix="make them with legato models convert raft-things.pth raft-things.safetensors",
        ) from error
    network = _network()
    wanted = network.state_dict()
    found = torchvision_keys(state) if is_original(state) else state
    # counters of the batches seen in training are of no use and not always saved
    found |= {key: wanted[key] for key in wanted if key.endswith("num_batches_tracked")}
    wrong = sorted(wanted.keys() ^ found.keys())
    wrong += [key for key in wanted.keys() & found.keys() if wanted[key].shape != found[key].shape]
    if wrong:
        raise ModelError(
            f"RAFT weights {path}",
            why=f"{len(wrong)} tensors are missing, unknown or of another shape: "
            + ", ".join(wrong[:10]),
            fix="use the weights of the large RAFT, such as raft-things",
        )
    network.load_state_dict(found)
    return RaftFlow(network.to(device))


def save_raft(state: Mapping[str, Tensor], target: Path) -> None:
    """Write weights of the original, such as raft-things.pth, or torchvision's, as safetensors.

    Raises:
        ModelError: a name is not one of RAFT's.
        OSError: the system refuses, as where the disk is full.
    """
    named = torchvision_keys(state) if is_original(state) else state
    save_tensors({key: value.contiguous() for key, value in named.items()}, target)


def is_raft(state: Mapping[str, Any]) -> bool:
    """Tell whether names are those of RAFT's parts, as its authors or torchvision call them."""
    return is_original(state) or any(key.startswith("feature_encoder.") for key in state)


def is_original(state: Mapping[str, Any]) -> bool:
    """Tell whether names are those of the authors' code (`module.fnet...`)."""
    return any(key.removeprefix("module.").startswith("fnet.") for key in state)


def torchvision_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original's parameters as torchvision does; the original saves a few of them twice.

    Raises:
        ModelError: a name is not one of RAFT's.
    """
    return {new: state[old] for old, new in _renamed(state) if new}


def _renamed(state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    for key in state:
        path, _, kind = key.removeprefix("module.").rpartition(".")
        new = _new_path(path)
        if new is None:
            raise ModelError(
                f"RAFT weights with {key!r}",
                why="there is no such part in RAFT",
                fix="use the weights of the large RAFT, such as raft-things",
            )
        yield key, f"{new}.{kind}" if new else ""


def _new_path(path: str) -> str | None:
    """Return torchvision's name of a module; empty for a second name of the same one."""
    top, _, rest = path.partition(".")
    if top in ENCODERS:
        if rest in LAYERS:
            return f"{ENCODERS[top]}.{LAYERS[rest]}"
        parts = rest.split(".", 2)
        if len(parts) < 3:
            return None
        layer, block, inner = parts
        if inner == "norm3":  # also saved as downsample.1
            return ""
        new = BLOCK_LAYERS.get(inner, inner if inner.startswith("downsample.") else None)
        return None if new is None else f"{ENCODERS[top]}.{layer}.{block}.{new}"
    if top == "update_block":
        return MASK.get(rest) or (f"update_block.{UPDATE[rest]}" if rest in UPDATE else None)
    return None


def _network() -> nn.Module:
    declare_missing()
    try:
        from torchvision.models.optical_flow import raft_large
    except ImportError as error:
        raise ResourceError(
            "flow='raft'", why="torchvision is not installed", fix="install it, or use dis"
        ) from error
    network: nn.Module = raft_large(weights=None)
    return network


def _padded(frames: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "T 3 h w"]:
    rows, cols = frames.shape[-2:]
    below, right = (
        max(MIN_SIDE - side, 0) + -max(side, MIN_SIDE) % MULTIPLE for side in (rows, cols)
    )
    return F.pad(frames, (0, right, 0, below), mode="replicate")
