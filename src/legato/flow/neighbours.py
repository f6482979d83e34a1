"""Where what a frame shows lies in the frames beside it."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from legato.flow.dis import DisFlow
from legato.flow.occlusion import consistency

_RELATIVE, _ABSOLUTE_PX2 = 0.01, 0.5  # of the consistency of the flow


def neighbour_motion(frames: Float[Tensor, "T 3 H W"]) -> Iterator[Float[Tensor, "6 H W"]]:
    """Yield of each frame the motion to the frame before and to the one after, by DIS, on the CPU.

    Each is (x, y) in pixels and a trust: 1 where forward and backward flow undo each other, else 0;
    all are 0 where the clip has no such frame.
    """
    estimate = DisFlow("fast")
    none = torch.zeros(3, *frames.shape[-2:])
    before = none
    for k in range(frames.shape[0] - 1):
        forth, back = estimate(frames[k : k + 2])
        yield torch.cat((before, _with_trust(forth, back)))
        before = _with_trust(back, forth)
    yield torch.cat((before, none))


def _with_trust(
    flow: Float[Tensor, "1 2 H W"], flow_back: Float[Tensor, "1 2 H W"]
) -> Float[Tensor, "3 H W"]:
    trust = consistency(flow, flow_back, alpha1=_RELATIVE, alpha2=_ABSOLUTE_PX2)
    return torch.cat((flow, trust), dim=1)[0]
