"""Cut what `legato train embedded` holds back of its sources into clips for quality.py.

    python benchmarks/held_back.py PACKED FOLDERS --out CLIPS

PACKED is the training's data.pack, which tells the sources, FOLDERS are where they lie. Videos give
the middle of their first frames, photographs a window that moves over them, reduced, from their
middle on. A shorter cut is the beginning of a longer one, whatever --frames says.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from media import read_clip, write_lossless

from legato.training.data import IMAGE_SUFFIXES, PackedClips, PackOptions, sources_of
from legato.training.recipes import held_back_names

LARGEST = (512, 640)
"""Rows and columns of a clip at most."""
MOTION_PX = (1.7, 2.3)
"""Of the window over a photograph, per frame, down and to the right."""
LEAST_ROOM = 1.2
"""A photograph is reduced until it is this many times as large as the window, if it is larger."""


def moved_over(picture: np.ndarray, num_frames: int) -> Iterator[np.ndarray]:
    """Move a window over a photograph from its middle on, by fractions of a pixel."""
    shrink = min(1.0, max(LEAST_ROOM * n / m for n, m in zip(LARGEST, picture.shape, strict=False)))
    small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    rows, cols = (min(n, m) for n, m in zip(LARGEST, small.shape, strict=False))
    for k in range(num_frames):
        down, right = (step * k for step in MOTION_PX)
        middle = (small.shape[1] - 1) / 2 + right, (small.shape[0] - 1) / 2 + down
        yield cv2.getRectSubPix(small, (cols, rows), middle)


def cut(path: Path, num_frames: int) -> np.ndarray:
    """Return `T H W 3` of a source, at most `LARGEST`."""
    clip = read_clip(path, num_frames)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return np.stack(list(moved_over(clip[0], num_frames)))
    rows, cols = (min(n, m) for n, m in zip(LARGEST, clip.shape[1:3], strict=True))
    top, left = (clip.shape[1] - rows) // 2, (clip.shape[2] - cols) // 2
    return clip[:, top : top + rows, left : left + cols]


def main() -> int:
    """Cut and store the clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packed", type=Path, help="data.pack in the training's folder")
    parser.add_argument("folders", type=Path, nargs="+", help="what it was packed from")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = held_back_names(PackedClips(arguments.packed).sources())
    if not kept:
        print(f"{arguments.packed} has too few sources: none is held back", file=sys.stderr)
        return 1
    for path in sources_of(arguments.folders, PackOptions()):
        if path.stem in kept:
            clip = cut(path, arguments.frames)
            write_lossless(arguments.out / f"{path.stem}.mkv", clip)
            print(path.stem, *clip.shape[:3])
    return 0


if __name__ == "__main__":
    sys.exit(main())
