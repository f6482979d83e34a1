"""Jumps between frames that only the cutting of time explains, drawn against the frame's index.

    python benchmarks/continuity.py CLIP [--severity s2] [--frames 25] [--model embedded-x4]

The clip is damaged and enlarged three times: with time not cut at all (one window), cut as the
released Upscale-A-Video cuts it (`compat="reference"`: windows of running averages, three frames
decoded at a time), and as Legato does. The curve is the mean absolute difference of neighbouring
frames, less that of the uncut result. A *jump* is how far a value lies above the mean of its two
neighbours; the table gives its mean where decoded chunks meet, where only windows begin or end, and
elsewhere. Exit code 1: at either place Legato jumps more than a tenth of what the reference does
where its chunks meet.
"""

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from media import read_clip
from numpy import ndarray
from variants import Variant, restore

from legato.device import choose_device, choose_dtype
from legato.evaluation.datasets import SEVERITIES, degrade, seed_of
from legato.evaluation.report import Bar
from legato.models.load import load_upscaler
from legato.pipelines.applied_model import REFERENCE_CHUNK
from legato.pipelines.restore_options import RestoreOptions

WINDOW, STRIDE = 8, 6
STYLES = {"reference": (40, 40, 220), "default": (60, 140, 40)}
ROWS, COLUMNS, MARGIN = 360, 960, 40


def changes(clip: UInt8[ndarray, "T H W 3"]) -> Float64[ndarray, "T-1"]:
    """Return the mean absolute difference of each frame and the next, in 8-bit units."""
    return np.array([cv2.absdiff(one, other).mean() for one, other in pairwise(clip)])


def jumps(curve: Float64[ndarray, "N"]) -> Float64[ndarray, "N"]:
    """Return how far each value lies above the mean of its neighbours; the ends are 0."""
    found = np.zeros_like(curve)
    found[1:-1] = curve[1:-1] - (curve[:-2] + curve[2:]) / 2
    return found


def places(count: int) -> dict[str, list[int]]:
    """Return the pairs of frames, by their first, where the reference's chunks and windows end."""
    inner = range(1, count - 1)
    chunks = [k for k in inner if (k + 1) % REFERENCE_CHUNK == 0]
    starts = range(STRIDE, count, STRIDE)
    edges = {start - 1 for start in starts} | {start + WINDOW - STRIDE - 1 for start in starts}
    windows = [k for k in inner if k in edges.difference(chunks)]
    return {
        "decoded chunks": chunks,
        "windows": windows,
        "elsewhere": [k for k in inner if k not in edges.union(chunks)],
    }


def draw(curves: dict[str, Float64[ndarray, "N"]], target: Path) -> None:
    """Draw the curves in one picture; grey lines stand where the reference's chunks meet."""
    picture = np.full((ROWS, COLUMNS, 3), 255, np.uint8)
    values = np.concatenate(list(curves.values()))
    low, high = float(values.min()), float(max(values.max(), values.min() + 1e-6))
    count = len(next(iter(curves.values())))

    def point(index: int, value: float) -> tuple[int, int]:
        x = MARGIN + (COLUMNS - 2 * MARGIN) * index / max(count - 1, 1)
        y = ROWS - MARGIN - (ROWS - 2 * MARGIN) * (value - low) / (high - low)
        return round(x), round(y)

    for index in places(count)["decoded chunks"]:
        cv2.line(picture, point(index, low), point(index, high), (225, 225, 225), 1)
    for row, (name, curve) in enumerate(curves.items()):
        line = np.array([point(k, float(v)) for k, v in enumerate(curve)], np.int32)
        cv2.polylines(picture, [line], False, STYLES[name], 2, cv2.LINE_AA)
        cv2.putText(picture, name, (MARGIN, 20 + 16 * row), 0, 0.5, STYLES[name], 1, cv2.LINE_AA)
    for value, y in ((low, ROWS - MARGIN), (high, MARGIN)):
        cv2.putText(picture, f"{value:.2f}", (2, y), 0, 0.35, (0, 0, 0), 1, cv2.LINE_AA)
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), picture)


def main() -> int:
    """Measure, draw, print the table and the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--severity", choices=SEVERITIES, default="s2")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--model", default="embedded-x4")
    parser.add_argument("--out", type=Path, default=Path("runs/continuity.png"))
    arguments = parser.parse_args()
    device = choose_device("auto")
    model = load_upscaler(arguments.model, device, choose_dtype("auto", device))
    truth = read_clip(arguments.clip, arguments.frames)
    rng = np.random.default_rng(seed_of(arguments.clip.stem))
    small = degrade(truth, SEVERITIES[arguments.severity], rng)
    cuts = {
        "uncut": RestoreOptions(window=len(truth)),
        "reference": RestoreOptions(compat="reference"),
        "default": RestoreOptions(),
    }
    curves = {
        name: changes(restore(model, small, Variant(options=options)))
        for name, options in cuts.items()
    }
    uncut = curves.pop("uncut")
    curves = {name: curve - uncut for name, curve in curves.items()}
    draw(curves, arguments.out)
    where = places(len(uncut))
    means = {
        name: {place: float(jumps(curve)[at].mean()) for place, at in where.items()}
        for name, curve in curves.items()
    }
    print("| mean jump, 8-bit units |" + "".join(f" {place} |" for place in where))
    print("|---|" + "--:|" * len(where))
    for name, row in means.items():
        print(f"| {name} |" + "".join(f" {value:.4f} |" for value in row.values()))
    limit = 0.1 * means["reference"]["decoded chunks"]
    bars = [
        Bar(name=f"default's jump at {place}", value=means["default"][place], limit=limit)
        for place in ("decoded chunks", "windows")
    ]
    print("\n".join(map(str, bars)))
    arguments.out.with_suffix(".json").write_text(
        json.dumps({"curves": {k: v.tolist() for k, v in curves.items()}, "jumps": means}, indent=1)
    )
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
