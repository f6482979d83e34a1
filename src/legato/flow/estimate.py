"""What an optical flow estimator is, and which ones there are."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from legato.errors import InputError

ESTIMATORS = ("dis", "raft")


@runtime_checkable
class FlowEstimator(Protocol):
    """Estimates where every pixel of each frame went in the next frame, and came from."""

    def __call__(
        self, frames: Float[Tensor, "T 3 H W"]
    ) -> tuple[Float[Tensor, "K 2 H W"], Float[Tensor, "K 2 H W"]]:
        """Return (flow_forward, flow_backward), float32 pixels, x then y, K = T - 1.

        `flow_forward[k]` lives on frame k and points to frame k+1; `flow_backward[k]` lives on
        frame k+1 and points to frame k. Frames are RGB in [-1, 1]; one frame gives empty flows.
        """
        ...


def choose_estimator(
    name: str = "dis", *, weights: str | None = None, device: torch.device | None = None
) -> FlowEstimator:
    """Return the named estimator.

    Args:
        name: `dis` (OpenCV, no download) or `raft` (needs torchvision and a weights file).
        weights: RAFT's weights, a safetensors file in the original's or torchvision's naming.
        device: where RAFT computes; DIS always uses the CPU.

    Raises:
        InputError: the name is unknown, or RAFT is asked for without weights.
        ModelError: the weights do not fit RAFT.
        ResourceError: torchvision is not installed.
    """
    if name == "dis":
        from legato.flow.dis import DisFlow

        return DisFlow()
    if name == "raft":
        from legato.flow.raft import load_raft

        if weights is None:
            raise InputError(
                "flow='raft'", why="RAFT needs a weights file", fix="name one, or use dis"
            )
        return load_raft(weights, device=device or torch.device("cpu"))
    raise InputError(
        f"flow={name!r}", why="there is no such estimator", fix=f"use {' or '.join(ESTIMATORS)}"
    )


def estimator_by(raft: Path | None, device: torch.device) -> FlowEstimator:
    """Return RAFT where its weights are named, else DIS; errors as of `choose_estimator`."""
    if raft is None:
        return choose_estimator("dis")
    return choose_estimator("raft", weights=str(raft.expanduser()), device=device)
