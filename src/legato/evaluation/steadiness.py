"""How steady a clip is: what moves keeps its look, what stands still does not flicker.

f: flow to the next frame, on the frame; b: flow from the next frame back; both of the reference, so
that a blurred or trembling output cannot choose its own yardstick.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

from legato.evaluation.fidelity import require_same_shape
from legato.flow.dis import DisFlow
from legato.flow.estimate import FlowEstimator
from legato.flow.occlusion import consistency, motion_boundary
from legato.flow.warp import warp

_RELATIVE, _ABSOLUTE_PX2 = 0.01, 0.5
_BLOCK_PX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMotion:
    """Where each pixel of a frame lies in the next one, and whether that can be believed."""

    flow: Float[Tensor, "1 2 H W"]
    """Pixels, x then y."""
    inside: Bool[Tensor, "1 1 H W"]
    """Not out of the next frame."""
    valid: Bool[Tensor, "1 1 H W"]
    """Not occluded either, nor at a motion boundary where those were asked for."""


def correspondences(
    reference: UInt8[ndarray, "T H W 3"],
    estimate: FlowEstimator | None = None,
    *,
    boundaries: bool = False,
) -> list[PairMotion]:
    """Follow each pair of neighbouring frames of a clip.

    A pixel counts where |f + b(f)|^2 < 0.01 (|f|^2 + |b(f)|^2) + 0.5 (Ruder et al. 2016,
    arXiv:1604.08610, section 3.2) and its target lies inside the picture.

    Args:
        reference: the truth, or another clip with the same motion.
        estimate: of the flow; None: DIS, preset medium, on luma.
        boundaries: pixels at motion boundaries do not count either (`motion_boundary`).
    """
    estimate = estimate or DisFlow("medium")
    rows, cols = reference.shape[1:3]
    ys, xs = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    found = []
    for t in range(len(reference) - 1):
        flows = estimate(_to_tensor(reference[t : t + 2]) * 2 - 1)
        forward, backward = (flow.cpu() for flow in flows)
        agree = consistency(forward, backward, alpha1=_RELATIVE, alpha2=_ABSOLUTE_PX2)
        x, y = xs + forward[:, 0], ys + forward[:, 1]
        inside = ((x >= 0) & (x <= cols - 1) & (y >= 0) & (y <= rows - 1))[:, None]
        valid = (agree > 0) & inside
        if boundaries:
            valid &= ~motion_boundary(forward)[:, None]
        found.append(PairMotion(flow=forward, inside=inside, valid=valid))
    return found


def warping_error(
    clip: UInt8[ndarray, "T H W 3"], pairs: Sequence[PairMotion], *, masked: bool = True
) -> float:
    """Return the mean squared difference of frames to their warped next frames, times 1000.

    RGB in [0, 1]; mean over valid pixels and channels, then over pairs; 0 for a single frame (Lai
    et al. 2018, arXiv:1808.00449, eq. 9, with flow on the reference). Also called Pixel-MSE (Ceylan
    et al. 2023, Pix2Video, arXiv:2303.12688), without the factor and with or without a mask.

    Args:
        clip: what is judged; as many frames as the reference.
        pairs: from `correspondences(reference)`.
        masked: leave occluded pixels out; those that leave the picture never count.
    """
    errors = []
    for t, pair in enumerate(pairs):
        now, following = _to_tensor(clip[t : t + 1]), _to_tensor(clip[t + 1 : t + 2])
        difference = (warp(following, pair.flow) - now).square().mean(dim=1, keepdim=True)
        counted = pair.valid if masked else pair.inside
        if counted.any():
            errors.append(float(difference[counted].mean()))
    return 1000 * float(np.mean(errors)) if errors else 0.0


def flicker(clip: UInt8[ndarray, "T H W 3"], truth: UInt8[ndarray, "T H W 3"]) -> float:
    """Return how much brightness changes between frames where the truth's does not.

    Mean absolute difference of the two clips' frame-to-frame changes of luma, averaged over blocks
    of 8x8 pixels so that sharpness does not count; 8-bit units; 0 for a single frame.

    Raises:
        InputError: the clips have no frame, or differ in size or length.
    """
    require_same_shape(clip, truth)
    if len(clip) < 2:
        return 0.0
    changes = [
        np.diff(np.stack([block_luma(p) for p in frames]), axis=0) for frames in (clip, truth)
    ]
    return float(np.abs(changes[0] - changes[1]).mean())


def own_flicker(clip: UInt8[ndarray, "T H W 3"], pairs: Sequence[PairMotion]) -> float:
    """Return how much brightness changes along a clip's own motion, for want of a truth.

    `flicker` of each next frame, warped onto the present one, against one that stays as it is;
    occluded pixels do not count. A clip chooses its own motion, so compare it between outputs of
    one input only; 8-bit units; 0 for a single frame.

    Args:
        clip: what is judged.
        pairs: from `correspondences(clip)`.
    """
    changes = []
    for t, pair in enumerate(pairs):
        warped = warp(_to_tensor(clip[t + 1 : t + 2]), pair.flow)[0].permute(1, 2, 0)
        valid = pair.valid[0, 0].numpy()[..., None]
        following = np.where(valid, (255 * warped.numpy()).round(), clip[t]).astype(np.uint8)
        changes.append(flicker(np.stack([clip[t], following]), np.stack([clip[t]] * 2)))
    return float(np.mean(changes)) if changes else 0.0


def flow_difference(pairs: Sequence[PairMotion], truth_pairs: Sequence[PairMotion]) -> float:
    """Return tOF: the mean over pixels of |dx| + |dy| between two clips' flows, in pixels.

    0 where both move alike (Chu et al. 2020, TecoGAN, arXiv:1811.09393, section 5.2, there with
    another estimator of flow: figures compare only with others of this function).

    Args:
        pairs: from `correspondences` of the judged clip.
        truth_pairs: from `correspondences(truth)`.
    """
    errors = [
        float((a.flow - b.flow).abs().sum(dim=1).mean())
        for a, b in zip(pairs, truth_pairs, strict=True)
    ]
    return float(np.mean(errors)) if errors else 0.0


def block_luma(picture: UInt8[ndarray, "H W 3"]) -> Float[ndarray, "rows cols"]:
    """Return the mean luma of blocks of 8x8 pixels, 0 to 255."""
    luma = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    rows, cols = (max(1, side // _BLOCK_PX) for side in luma.shape)
    return np.asarray(cv2.resize(luma, (cols, rows), interpolation=cv2.INTER_AREA))


def _to_tensor(frames: UInt8[ndarray, "T H W 3"]) -> Float[Tensor, "T 3 H W"]:
    return torch.from_numpy(frames.astype(np.float32) / 255).permute(0, 3, 1, 2)
