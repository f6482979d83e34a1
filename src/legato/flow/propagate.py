"""Carry values along the flow, backward and then forward in time, and fuse them."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.flow.occlusion import ABSOLUTE, RELATIVE, consistency
from legato.flow.warp import warp


class Thresholds(NamedTuple):
    """Tolerances of the forward-backward check, see `occlusion.consistency`."""

    alpha1: float = RELATIVE
    alpha2: float = ABSOLUTE


DEFAULT_THRESHOLDS = Thresholds()


def propagate(  # noqa: PLR0913  (the settings of one formula)
    x: Float[Tensor, "B T C h w"],
    flow_forward: Float[Tensor, "B K 2 H W"],
    flow_backward: Float[Tensor, "B K 2 H W"],
    *,
    beta: float = 0.5,
    mode: Literal["nearest", "bilinear"] = "nearest",
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    seed_previous: Float[Tensor, "B C h w"] | None = None,
) -> Float[Tensor, "B T C h w"]:
    """Fuse every frame with its neighbours along the flow; float32 inside, the dtype of x outside.

    With W the warped neighbour and M the consistency mask, first backward in time, P_T = x_T and
    P_i = M (beta W(P_{i+1}) + (1 - beta) x_i) + (1 - M) x_i; then forward on the result, Q_1 = P_1
    and Q_i = M (beta W(Q_{i-1}) + (1 - beta) P_i) + (1 - M) P_i (Zhou et al. 2024,
    arXiv:2312.06640, eq. 2-3).

    Differs: the mask is the relative check of `occlusion.consistency`, as in the released code, not
    a fixed threshold.

    Args:
        x: estimates of consecutive frames.
        flow_forward: flow to the next frame, pixels of its own grid; resized to that of x where it
            differs. K = T - 1, or T with `seed_previous`, whose pair then comes first.
        flow_backward: flow from the next frame back, same pairs.
        beta: weight of the neighbour; 0 returns x.
        mode: how a neighbour is read between its cells.
        thresholds: of the check.
        seed_previous: Q of the frame before x, where an earlier segment has computed it.

    Raises:
        ValueError: the number of flows does not fit.
    """
    num_frames = x.shape[1]
    lead = 0 if seed_previous is None else 1
    if flow_forward.shape[1] != num_frames - 1 + lead:
        raise ValueError(f"{flow_forward.shape[1]} flows for {num_frames} frames")
    forth = _resized(flow_forward, x.shape[-2:])
    back = _resized(flow_backward, x.shape[-2:])
    frames = list(x.float().unbind(dim=1))

    def fuse(neighbour: Tensor, own: Tensor, flow: Tensor, flow_home: Tensor) -> Tensor:
        trusted = beta * consistency(
            flow, flow_home, alpha1=thresholds.alpha1, alpha2=thresholds.alpha2
        )
        return trusted * warp(neighbour, flow, mode=mode) + (1 - trusted) * own

    for i in reversed(range(num_frames - 1)):
        pair = i + lead
        frames[i] = fuse(frames[i + 1], frames[i], forth[:, pair], back[:, pair])
    previous = seed_previous.float() if seed_previous is not None else frames[0]
    for i in range(1 - lead, num_frames):
        pair = i - 1 + lead
        frames[i] = previous = fuse(previous, frames[i], back[:, pair], forth[:, pair])
    return torch.stack(frames, dim=1).to(x.dtype)


def _resized(flow: Float[Tensor, "B K 2 H W"], size: tuple[int, ...]) -> Float[Tensor, "B K 2 h w"]:
    """Reduce (by area) or enlarge the grid of the flow and scale its vectors with it."""
    rows, cols = flow.shape[-2:]
    if (rows, cols) == tuple(size) or flow.shape[1] == 0:
        return flow.float().reshape(*flow.shape[:3], *size)
    resized = F.interpolate(flow.float().flatten(0, 1), size=tuple(size), mode="area")
    factors = torch.tensor([size[1] / cols, size[0] / rows], device=flow.device).view(1, 2, 1, 1)
    return (resized * factors).reshape(*flow.shape[:3], *size)
