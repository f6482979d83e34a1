"""What stands out of a clip, without any weights: motion proposes, colour decides.

Pixels that do not move as the camera does are seeds of the foreground, the others of the
background; histograms of both give each colour its odds. Where nothing moves by itself, the
middle of the picture stands against its border.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from legato.flow.correspondence import CyclicMotion
from legato.flow.resample import resample_flow

_REDUCTION = 2
_OWN_MOTION = 0.004  # of the diagonal, apart from the camera's: 3 pixels of 512x512
_FEWEST_SEEDS = 0.005  # of all pixels
_BORDER = 0.2  # of each side
_BINS = 16  # along each of L, a, b
_SEED_ODDS = 0.5  # log-odds that being a seed adds to those of the colour
_SMOOTHING_PX = 5
_SAMPLES = 48  # along each side, to fit the camera's motion


def stand_out(frames: Float[Tensor, "T 3 H W"], motion: CyclicMotion) -> Float[Tensor, "T 1 h w"]:
    """Return 1 where a frame shows what moves by itself or is coloured like it, else 0; half size.

    Args:
        frames: RGB in [-1, 1].
        motion: of these frames.
    """
    size = max(1, motion.size[0] // _REDUCTION), max(1, motion.size[1] // _REDUCTION)
    flow = resample_flow(motion.flow_forward, size).permute(0, 2, 3, 1).cpu().numpy()
    seeds = np.stack([_moving(field) for field in flow])
    odds = _SEED_ODDS * np.where(seeds, 1.0, -1.0)
    if seeds.mean() < _FEWEST_SEEDS:
        seeds[:], odds[:] = _middle(size), 0  # a place is no evidence by itself
    odds += _colour_odds(_colours(frames, size), seeds)
    window = (_SMOOTHING_PX, _SMOOTHING_PX)
    masks = np.stack([cv2.blur(each.astype(np.float32), window) > 0 for each in odds])
    return torch.from_numpy(masks).float()[:, None].to(frames.device)


def _moving(flow: Float[ndarray, "h w 2"]) -> Bool[ndarray, "h w"]:
    """Tell which pixels do not follow the affine motion that most of them agree on."""
    rows, cols = flow.shape[:2]
    tolerance = _OWN_MOTION * float(np.hypot(rows, cols))
    grid = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1).astype(np.float32)
    step = max(1, rows // _SAMPLES), max(1, cols // _SAMPLES)
    here = grid[:: step[0], :: step[1]].reshape(-1, 2)
    there = here + flow[:: step[0], :: step[1]].reshape(-1, 2)
    camera, _ = cv2.estimateAffine2D(here, there, ransacReprojThreshold=tolerance)
    if camera is None:  # too few pixels, or no agreement
        return np.zeros((rows, cols), dtype=bool)
    expected = grid @ camera[:, :2].T + camera[:, 2] - grid
    return np.asarray(np.linalg.norm(flow - expected, axis=-1) > tolerance)


def _middle(size: tuple[int, int]) -> Bool[ndarray, "h w"]:
    """Return the ellipse inside a picture's border."""
    ys, xs = (np.linspace(-1, 1, side) / (1 - _BORDER) for side in size)
    return np.asarray(ys[:, None] ** 2 + xs**2 < 1)


def _colours(frames: Float[Tensor, "T 3 H W"], size: tuple[int, int]) -> Int64[ndarray, "T h w"]:
    """Return the bin of every pixel's colour in Lab, at a smaller size."""
    bytes_ = ((frames.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pictures: UInt8[ndarray, "T H W 3"] = bytes_.permute(0, 2, 3, 1).numpy()
    small = [cv2.resize(p, size[::-1], interpolation=cv2.INTER_AREA) for p in pictures]
    lab = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2Lab) for p in small]).astype(np.int64)
    return np.asarray((lab * _BINS // 256) @ np.array([_BINS**2, _BINS, 1]))


def _colour_odds(
    colours: Int64[ndarray, "T h w"], seeds: Bool[ndarray, "T h w"]
) -> Float[ndarray, "T h w"]:
    """Return log p(colour | foreground) - log p(colour | background); 0 for an unseen colour."""
    shares = []
    for chosen in (seeds, ~seeds):
        counts = np.bincount(colours[chosen], minlength=_BINS**3).astype(np.float64)
        smooth = _spread(counts.reshape((_BINS,) * 3)) + 1e-5 * max(1, int(chosen.sum()))
        shares.append(smooth / smooth.sum())
    return np.asarray(np.log(shares[0] / shares[1]).reshape(-1)[colours])


def _spread(counts: Float[ndarray, "L a b"]) -> Float[ndarray, "L a b"]:
    """Let each bin count a little for its neighbours: [1 2 1] / 4 along each axis."""
    spread = counts
    for axis in range(3):
        padded = np.pad(spread, [(int(axis == k),) * 2 for k in range(3)], mode="edge")
        length = spread.shape[axis]
        before, here, after = (
            np.take(padded, range(shift, shift + length), axis=axis) for shift in range(3)
        )
        spread = (before + 2 * here + after) / 4
    return spread
