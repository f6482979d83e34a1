"""FRESCO's fixtures of key frames, flow, links, blending and background; run by `parity.py`."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from legato.flow.background import background_of, smooth_background, widened
from legato.flow.correspondence import CyclicMotion, link, with_occlusions
from legato.flow.occlusion import occluded
from legato.flow.resample import resample, resample_flow, resample_mask
from legato.flow.trajectories import link_tokens
from legato.flow.warp import warp
from legato.pipelines.blend import (
    RELEASED_STEEPEST,
    Statistics,
    blend_gradients,
    blend_statistics,
    join_previous,
    select,
)
from legato.pipelines.keyframes import KeyframeOptions, measure_changes, select_keyframes

Fixture = dict[str, Tensor]
Outputs = dict[str, Tensor]


def frames_of(images: Tensor) -> Tensor:
    """T H W 3 of bytes to T 3 H W in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def run_keyframes(fixture: Fixture) -> Outputs:
    """How much frames change, and the key frames chosen from that."""
    outputs = {}
    for name, value in fixture.items():
        sequence, _, what = name.partition(".")
        if what == "frames":
            grey = value.dim() == 3
            frames = value[..., None].expand(-1, -1, -1, 3) if grey else value
            changes = measure_changes(np.ascontiguousarray(frame) for frame in frames.numpy())
            outputs[f"{sequence}.distance"] = torch.from_numpy(changes)
        elif what.startswith("keys_"):
            least, most = map(int, what.removeprefix("keys_").split("_"))
            keys = select_keyframes(
                fixture[f"{sequence}.distance"].numpy(),
                KeyframeOptions(min_interval=least, max_interval=most),
            )
            outputs[name] = torch.tensor(keys)
    return outputs


def run_flow_occlusion(fixture: Fixture) -> Outputs:
    """Warped frames, and both kinds of occlusion."""
    frames, forward, backward = (
        frames_of(fixture["images"]),
        fixture["flow_fwd"],
        fixture["flow_bwd"],
    )
    motion = with_occlusions(frames, forward, backward)
    levels = fixture["images"].permute(0, 3, 1, 2).float()
    feature, flow = fixture["small.feature"], fixture["small.flow"]
    return {
        "warped_bwd": warp(levels, backward),
        "warped_fwd": warp(levels.roll(-1, dims=0), forward),
        "occ_fwd_geometric": occluded(forward, backward),
        "occ_bwd_geometric": occluded(backward, forward),
        "occ_fwd": motion.occluded_forward,
        "occ_bwd": motion.occluded_backward,
        "small.warped": warp(feature, flow),
        "small.warped_nearest": warp(feature, flow, mode="nearest"),
    }


def run_correspondence(fixture: Fixture) -> Outputs:
    """Occlusions, unique tokens, links between frames, trajectories."""
    frames = frames_of(fixture["images"])
    motion = with_occlusions(frames, fixture["flow_fwd"], fixture["flow_bwd"])
    outputs = {"occ_fwd": motion.occluded_forward, "occ_bwd": motion.occluded_backward}
    for stride in (8, 16, 32):
        links = link(frames, motion, stride=stride)
        outputs[f"unique_mask_{stride}"] = links.unique
        if f"perm_{stride}" in fixture:
            steps = link_tokens(
                resample_flow(motion.flow_backward[:-1], links.size),
                resample_mask(motion.occluded_backward[:-1], links.size),
                resample(frames, links.size),
            )
            paths = links.trajectories
            outputs |= {
                f"pair_map_{stride}": steps.target,
                f"pair_unlinked_{stride}": steps.unlinked,
                f"perm_{stride}": paths.permutation,
                f"perm_inv_{stride}": paths.inverse,
                f"link_mask_{stride}": paths.linked,
            }
    return outputs


def run_blend(fixture: Fixture) -> Outputs:
    """Selection, blend and gradient blend of both passes; pictures are BGR, Lab in 8 bits."""
    stored = {name: value.numpy() for name, value in fixture.items()}
    steps: dict[str, list[np.ndarray]] = {}
    previous = None
    for j, weight in enumerate(stored["weight_backward"]):
        instant = select(stored["error_forward"][j], stored["error_backward"][j], float(weight))
        joined = instant
        if previous is not None:
            joined = join_previous(instant, previous, stored["flow"][j].transpose(1, 2, 0))
        previous = joined
        forward, backward = (
            stored[f"lab_{which}"][j].astype(np.float32) for which in ("forward", "backward")
        )
        target = Statistics.of(stored["lab_min_error"][j].astype(np.float32))
        mixed = blend_statistics(forward, backward, float(weight), target)
        lab = np.rint(mixed).clip(0, 255).astype(np.uint8)
        centred = stored["lab_blended"][j].astype(np.float32)
        centred -= centred.mean(axis=(0, 1))
        outputs = {
            "selection_instant": instant,
            "selection": joined,
            "min_error_image": np.where(
                joined[..., None], stored["backward"][j], stored["forward"][j]
            ),
            "blended": cv2.cvtColor(lab, cv2.COLOR_Lab2BGR),
            "poisson_lab_zero_mean": blend_gradients(
                forward, backward, joined, centred, steepest=RELEASED_STEEPEST
            ),
        }
        for name, value in outputs.items():
            steps.setdefault(name, []).append(value)
    return {name: torch.from_numpy(np.stack(values)) for name, values in steps.items()}


def run_background(fixture: Fixture) -> Outputs:
    """Masks, and the background carried along the flow through features and pixels."""
    motion = CyclicMotion(
        flow_forward=fixture["flow_fwd"],
        flow_backward=fixture["flow_bwd"],
        occluded_forward=fixture["occ_fwd"].bool(),
        occluded_backward=fixture["occ_bwd"].bool(),
    )
    background = background_of(fixture["saliency_logits"].sigmoid())
    feature, image = fixture["feature"].unflatten(0, (2, -1)), fixture["image"][None]
    return {
        "background": background,
        "soft_mask_dilated_7": widened(fixture["soft_mask"], 7),
        "soft_mask_dilated_13": widened(fixture["soft_mask"], 13),
        "feature_smoothed": smooth_background(feature, motion, background).flatten(0, 1),
        "image_smoothed": smooth_background(image, motion, background)[0],
    }


RUNNERS: dict[str, Callable[[Fixture], Outputs]] = {
    "keyframes": run_keyframes,
    "flow_occlusion": run_flow_occlusion,
    "correspondence": run_correspondence,
    "blend": run_blend,
    "background_ddpm": run_background,
}
"""Beginning of a fixture's name -> what computes its outputs."""
