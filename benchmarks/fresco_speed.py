"""Milliseconds of everything around the key frames at 512x512: choice, links, blending between.

    python benchmarks/fresco_speed.py [CLIP] [--side 512] [--repeats 7]

Processor time of all threads, the least of some repetitions, so that other work on the machine
counts little; on an idle one it is what one core would take. Exit code 1: trajectories take more
than 50 ms per pair, or key frames or blending reach fewer than 20 frames per second. Flow is shown
beside them; its share depends on the estimator.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from media import read_clip

from legato.evaluation.report import Bar
from legato.flow.correspondence import STRIDES, follow, link
from legato.flow.dis import DisFlow
from legato.flow.foreground import stand_out
from legato.pipelines.blend import Version, merge
from legato.pipelines.in_between import FlowBlend
from legato.pipelines.keyframes import measure_changes
from legato.pipelines.lab import from_lab, to_lab

DEMO = Path(__file__).parents[1] / "demo" / "clip.mp4"
NUM_FRAMES = 5


def least_ms(work: Callable[[], object], repeats: int) -> float:
    """Return the least processor time of a few runs, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        began = time.process_time()
        work()
        times.append(1000 * (time.process_time() - began))
    return min(times[1:])


def blended(clip: np.ndarray, errors: np.ndarray, flow: np.ndarray) -> Callable[[], np.ndarray]:
    """Return what selects and merges one frame and makes a picture of it."""
    labs = [to_lab(frame.astype(np.float32) / 255) for frame in clip[:2]]
    versions = [Version(lab, error) for lab, error in zip(labs, errors, strict=True)]
    previous = errors[0] > errors[1]
    return lambda: from_lab(merge(*versions, 0.4, (previous, flow))[0])


def main() -> int:
    """Measure the parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?", default=DEMO)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("runs/fresco_speed.json"))
    arguments = parser.parse_args()
    size, repeats = (arguments.side, arguments.side), arguments.repeats
    clip = np.stack([cv2.resize(p, size) for p in read_clip(arguments.clip)[:NUM_FRAMES]])
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1
    estimate, pairs = DisFlow(), NUM_FRAMES - 1
    motion = follow(frames, estimate)
    errors = np.random.default_rng(0).random((2, *size)).astype(np.float32)
    field = motion.flow_backward[0].permute(1, 2, 0).numpy()

    def links() -> None:
        for stride in STRIDES:
            link(frames, motion, stride=stride)

    looks = [clip[k].astype(np.float32) / 255 for k in (0, -1)]
    found = {
        "key frames, per frame": least_ms(lambda: measure_changes(clip), repeats) / NUM_FRAMES,
        "trajectories, per pair": least_ms(links, repeats) / pairs,
        "selection and blending, per frame": least_ms(blended(clip, errors, field), repeats),
        "flow and occlusion, per pair": least_ms(lambda: follow(frames, estimate), 1) / NUM_FRAMES,
        "background mask, per frame": least_ms(lambda: stand_out(frames, motion), 2) / NUM_FRAMES,
        "in between with flow, per frame": least_ms(
            lambda: list(FlowBlend(estimate)(list(clip), *looks)), 1
        )
        / (NUM_FRAMES - 2),
    }
    for name, milliseconds in found.items():
        print(f"{name:36} {milliseconds:8.1f} ms")
    limits = {
        "trajectories, per pair": 50.0,
        "key frames, per frame": 50.0,
        "selection and blending, per frame": 50.0,
    }
    bars = [Bar(name=f"ms: {name}", value=found[name], limit=limits[name]) for name in limits]
    for bar in bars:
        print(bar)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1))
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
