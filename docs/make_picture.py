"""Make the README's picture: the demo's input, enlarged bicubically, beside Legato's output.

    make demo && .venv/bin/python docs/make_picture.py

One frame of each shot, at a third and at two thirds of the clip, and from each the middle.
"""

from pathlib import Path

import cv2
import numpy as np

from legato.video.read import read_frames

ROOT = Path(__file__).parents[1]
BEFORE, AFTER = ROOT / "demo" / "clip.mp4", ROOT / "demo" / "out" / "clip_x4.mp4"
TARGET = ROOT / "docs" / "before_after.png"
CROP_PX = (320, 400)  # rows, columns
GAP_PX = 6


def panel(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the middle of a frame before and after, a white line between."""
    size = after.shape[1], after.shape[0]
    enlarged = cv2.resize(before, size, interpolation=cv2.INTER_CUBIC)
    rows, cols = CROP_PX
    top, left = (size[1] - rows) // 2, (size[0] - cols) // 2
    views = [picture[top : top + rows, left : left + cols] for picture in (enlarged, after)]
    line = np.full((rows, GAP_PX, 3), 255, np.uint8)
    return np.concatenate([views[0], line, views[1]], axis=1)


def main() -> None:
    """Write the picture."""
    clips = [[frame.pixels for frame in read_frames(path)] for path in (BEFORE, AFTER)]
    places = [len(clips[0]) // 3, 2 * len(clips[0]) // 3]
    panels = [panel(clips[0][place], clips[1][place]) for place in places]
    gap = np.full((GAP_PX, panels[0].shape[1], 3), 255, np.uint8)
    picture = np.concatenate([panels[0], gap, panels[1]], axis=0)
    cv2.imwrite(str(TARGET), picture[..., ::-1])


if __name__ == "__main__":
    main()
