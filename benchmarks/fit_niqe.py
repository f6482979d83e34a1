"""Fit the pristine model of NIQE on a folder of photographs.

    python benchmarks/fit_niqe.py PHOTOGRAPHS [--out src/legato/evaluation/niqe.safetensors]

Large photographs are halved first: compression, demosaicing and sharpening then leave fewer traces.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from legato.evaluation.niqe import MODEL_FILE, NaturalModel
from legato.video.container import list_images
from legato.video.images import read_image

LARGE_PX = 1200


def photographs(folder: Path) -> Iterator[np.ndarray]:
    """Yield a folder's images as 8-bit RGB, halved where a side has 1200 pixels or more."""
    for path in list_images(folder):
        pixels, _ = read_image(path)
        if max(pixels.shape) >= LARGE_PX:
            pixels = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        yield pixels


def main() -> None:
    """Fit and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, default=MODEL_FILE)
    arguments = parser.parse_args()
    model = NaturalModel.fit(photographs(arguments.photographs))
    model.save(arguments.out)
    scores = [
        model.distance(p) for p in photographs(arguments.photographs) if min(p.shape[:2]) > 192
    ]
    print(
        f"{arguments.out}: NIQE of these photographs {np.mean(scores):.2f} +- {np.std(scores):.2f}"
    )


if __name__ == "__main__":
    main()
