"""Small clips on disk: two that pan over a texture, and worse copies of them."""

from pathlib import Path

import cv2
import numpy as np
from clips import texture, write_clip


def truth_clip(seed=0, num_frames=4, size=(96, 64)):
    frames = texture(num_frames + seed, size)[seed:]
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1) for frame in frames])


def worse_clip(clip, sigma=6, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, clip.shape)
    return (clip + noise).clip(0, 255).astype(np.uint8)


def write_images(folder: Path, clip):
    folder.mkdir(parents=True)
    for t, picture in enumerate(clip):
        cv2.imwrite(str(folder / f"{t:03d}.png"), picture[..., ::-1])


def write_roots(root: Path, num_clips=2):
    """Write results as folders of images and references as lossless videos; return both roots."""
    (root / "truths").mkdir(parents=True)
    for k in range(num_clips):
        clip = truth_clip(seed=k)
        write_clip(root / "truths" / f"clip_{k}.mkv", clip, sound=False)
        write_images(root / "results" / f"clip_{k}", worse_clip(clip, sigma=6 + 2 * k))
    return root / "results", root / "truths"
