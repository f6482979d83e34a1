"""Dense inverse search, OpenCV's own optical flow: fast, on the CPU, no weights.

Kroeger et al. 2016, arXiv:1603.03590.
"""

from itertools import pairwise

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from legato.axes import LUMA

MIN_SIDE = 32  # DIS needs a few of its 8-pixel patches each way


class DisFlow:
    """Estimates flow on 8-bit luma with DIS; frames of any size from one pixel.

    Args:
        preset: OpenCV's `ultrafast`, `fast` or `medium`.
    """

    def __init__(self, preset: str = "medium") -> None:
        presets = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }
        self._preset = presets[preset]

    def __call__(
        self, frames: Float[Tensor, "T 3 H W"]
    ) -> tuple[Float[Tensor, "K 2 H W"], Float[Tensor, "K 2 H W"]]:
        """Return (flow_forward, flow_backward) as `FlowEstimator` says; on the CPU."""
        rows, cols = frames.shape[-2:]
        forward = torch.empty(max(frames.shape[0] - 1, 0), 2, rows, cols)
        backward = torch.empty_like(forward)  # filled in place: flow of a long clip is large
        for index, (a, b) in enumerate(pairwise(_padded_luma(frames))):
            forward[index] = self._flow(a, b)[:, :rows, :cols]
            backward[index] = self._flow(b, a)[:, :rows, :cols]
        return forward, backward

    def _flow(self, source: np.ndarray, target: np.ndarray) -> Tensor:
        # an estimator of its own: OpenCV's remembers, and small frames show what came before
        flow = cv2.DISOpticalFlow.create(self._preset).calc(source, target, None)
        return torch.from_numpy(flow).permute(2, 0, 1)


def _padded_luma(frames: Float[Tensor, "T 3 H W"]) -> list[np.ndarray]:
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    luma = (frames.detach().cpu().float() * weights).sum(dim=1)
    eight_bit = ((luma + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    rows, cols = eight_bit.shape[-2:]
    margins = ((0, 0), (0, max(0, MIN_SIDE - rows)), (0, max(0, MIN_SIDE - cols)))
    return list(np.ascontiguousarray(np.pad(eight_bit, margins, mode="edge")))
