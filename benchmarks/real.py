"""Real, damaged clips without a truth: NIQE, colours, flicker, texture invented in flat places.

    python benchmarks/real.py CLIPS [--frames N] [--model embedded-x4]

Everything is compared with bicubic enlargement; a picture of every clip shows a crop of both.
Exit code 1: the mean NIQE does not lie 15% below bicubic's.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from media import legato_upscale, read_clip, save_crops
from peers import bicubic

from legato.errors import InputError
from legato.evaluation.niqe import NaturalModel
from legato.evaluation.report import Bar
from legato.evaluation.steadiness import flicker

BLOCK_PX = 16
FLAT = 1.0
"""Standard deviation of luma, 8-bit levels, below which a block of the bicubic picture is flat."""
BETTER = 0.85
"""Of bicubic's NIQE."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Of one clip."""

    niqe_bicubic: float
    niqe: float
    colour: float
    """By which a block's mean colour differs from bicubic's, 8-bit levels: 99.9% lie below."""
    flicker: float
    """Change of brightness that bicubic does not have, 8-bit levels."""
    flat_share: float
    """Share of blocks that are flat."""
    flat_mean: float
    flat_max: float
    """By how much the standard deviation of luma grew in flat blocks, 8-bit levels."""


def findings(ours: np.ndarray, base: np.ndarray) -> Findings:
    """Compare two enlarged clips `T H W 3`."""
    before, after = spread(base), spread(ours)
    flat = before < FLAT
    grown = (after - before)[flat] if flat.any() else np.zeros(1)
    shift = np.abs(block_means(ours.astype(np.float32)) - block_means(base.astype(np.float32)))
    return Findings(
        niqe_bicubic=mean_niqe(base),
        niqe=mean_niqe(ours),
        colour=float(np.quantile(shift, 0.999)),
        flicker=flicker(ours, base),
        flat_share=float(flat.mean()),
        flat_mean=float(grown.mean()),
        flat_max=float(grown.max()),
    )


def block_means(clip: np.ndarray) -> np.ndarray:
    """Return the means of blocks of `T H W C`."""
    rows, cols = (side // BLOCK_PX for side in clip.shape[1:3])
    whole = clip[:, : rows * BLOCK_PX, : cols * BLOCK_PX]
    parts = whole.reshape(len(clip), rows, BLOCK_PX, cols, BLOCK_PX, -1)
    means: np.ndarray = parts.mean(axis=(2, 4))
    return means


def spread(clip: np.ndarray) -> np.ndarray:
    """Return the standard deviation of luma of every block of a clip `T H W 3`."""
    luma = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip])[..., None]
    luma = luma.astype(np.float32)
    variance = block_means(luma**2) - block_means(luma) ** 2
    deviation: np.ndarray = np.sqrt(np.maximum(variance, 0))[..., 0]
    return deviation


@cache
def natural_model() -> NaturalModel:
    """Return what comes with Legato."""
    return NaturalModel.load()


def mean_niqe(clip: np.ndarray) -> float:
    """Return the mean over the frames that have enough patches, or not a number."""
    distances = []
    for frame in clip:
        try:
            distances.append(natural_model().distance(frame))
        except InputError:
            continue  # too small or too flat
    return float(np.mean(distances)) if distances else float("nan")


def main() -> int:
    """Measure, print the table and the bar, save them as JSON and pictures beside it."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--frames", type=int, default=4, help="only the first ones of each clip")
    parser.add_argument("--model", default="embedded-x4")
    parser.add_argument("--out", type=Path, default=Path("runs/real/real.json"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Findings)]
    print(f"{'':<24}" + "".join(f"{name:>14}" for name in names))
    rows: dict[str, Findings] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(path for path in arguments.clips.iterdir() if path.suffix != ".csv"):
            small = read_clip(path, arguments.frames)
            ours = legato_upscale(small, Path(folder), {"model": arguments.model})
            base = bicubic(small)
            rows[path.stem] = findings(ours, base)
            middle = len(small) // 2
            pictures = {"bicubic": base[middle], "legato": ours[middle]}
            save_crops(arguments.out.parent / f"{path.stem}.png", pictures, size_px=512)
            values = asdict(rows[path.stem]).values()
            print(f"{path.stem:<24}" + "".join(f"{value:14.2f}" for value in values), flush=True)
    means = {name: float(np.nanmean([getattr(r, name) for r in rows.values()])) for name in names}
    print(f"{'mean':<24}" + "".join(f"{value:14.2f}" for value in means.values()))
    bar = Bar(name="NIQE (Legato's fit)", value=means["niqe"], limit=BETTER * means["niqe_bicubic"])
    print(bar)
    report = {name: asdict(row) for name, row in rows.items()} | {"mean": means}
    arguments.out.write_text(json.dumps(report, indent=1))
    return 0 if bar.passed else 1


if __name__ == "__main__":
    sys.exit(main())
