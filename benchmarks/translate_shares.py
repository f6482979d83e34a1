"""How much each way of holding key frames together steadies a translation, at eight steps.

    python benchmarks/translate_shares.py [--clips 3] [--frames 8] [--model driving]

Held-back renders of a day become night: key frames five frames apart, one batch. The warping error
is the masked Pixel-MSE along the input's flow. What blurs is steady too: detail is the mean
Laplacian of luma, and the mean of luma tells whether the prompt still counts; both of 255. Exit
code 1: fresco does not halve the error of frames on their own.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from legato.device import choose_device, choose_dtype
from legato.evaluation.report import Bar
from legato.evaluation.steadiness import correspondences, warping_error
from legato.pipelines.consistency import EDITS, NEIGHBOURS
from legato.pipelines.prepare_translation import load_model, make_sampler
from legato.pipelines.translate_options import TranslateOptions
from legato.training.driving.clips import HELD_BACK_FROM
from legato.training.driving.labels import Labels
from legato.training.driving.render import World

INTERVAL_S = 5 / 25
NOISE = "shared-noise"
CROSS, FEATURES = f"{NOISE},cross-frame", f"{NOISE},features"
WAYS = (
    *("none", NOISE, CROSS, f"{CROSS},temporal-guided", FEATURES, "fresco"),
    *(f"{NOISE},{name}" for name in (*NEIGHBOURS, *EDITS)),
    f"{NOISE},first-and-previous,shape-aware,pixel-aware,color-aware",
    *("fresco,interleaved", "fresco,pixel-aware"),
)


def day(seed: int, num_frames: int) -> np.ndarray:
    """Return key frames of a clear day in a city."""
    labels = Labels(daytime="day", weather="clear", crowd="empty", place="city")
    return World(seed, labels).clip([INTERVAL_S * k for k in range(num_frames)])[0]


def main() -> int:
    """Translate every clip in every way, print the table and save it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--model", default="driving")
    parser.add_argument("--out", type=Path, default=Path("runs/translate_shares.json"))
    arguments = parser.parse_args()
    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    clips = [day(HELD_BACK_FROM + k, arguments.frames) for k in range(arguments.clips)]
    motion = [correspondences(clip) for clip in clips]
    truth = np.mean([warping_error(*pair) for pair in zip(clips, motion, strict=True)])
    print(f"the input itself: {truth:.2f}\n\n| | warping x1000 | of per frame | detail | luma |")
    print("|---|--:|--:|--:|--:|", flush=True)
    rows: dict[str, dict[str, float]] = {}
    for way in WAYS:
        options = TranslateOptions(model=arguments.model, num_inference_steps=8, consistency=way)
        model = load_model(options, device, dtype)
        sampler = make_sampler(model, options, device, dtype)
        errors, greys = [], []
        for clip, pairs in zip(clips, motion, strict=True):
            frames = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1
            ticks = range(0, 5 * len(clip), 5)
            latents, _ = sampler(
                frames, ticks, "night, clear, empty, city", anchors=None, on_pass=lambda _: None
            )
            made = model.decode(latents[None].to(device))[0].cpu()
            levels = ((made + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            pictures = levels.permute(0, 2, 3, 1).contiguous().numpy()
            errors.append(warping_error(pictures, pairs))
            greys += [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
        rows[way] = {
            "warping": float(np.mean(errors)),
            "detail": float(np.mean([np.abs(cv2.Laplacian(g, cv2.CV_32F)).mean() for g in greys])),
            "luma": float(np.mean(greys)),
        }
        share = rows[way]["warping"] / rows["none"]["warping"]
        found = rows[way]
        figures = f"{found['warping']:.2f} | {share:.2f} | {found['detail']:.1f}"
        print(f"| `{way}` | {figures} | {found['luma']:.0f} |", flush=True)
    bar = Bar(
        name="fresco, warping", value=rows["fresco"]["warping"], limit=0.5 * rows["none"]["warping"]
    )
    print(bar)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=1))
    return 0 if bar.passed else 1


if __name__ == "__main__":
    sys.exit(main())
