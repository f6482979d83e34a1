"""Clips in memory for the benchmarks: read, store without loss, upscale with Legato, crop, save."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import legato
from legato.video.read import read_frames

RATE = Fraction(25)


def read_clip(path: Path, num_frames: int | None = None) -> np.ndarray:
    """Return `T H W 3` uint8, rows and columns cut to a multiple of four."""
    frames = [frame.pixels for frame in islice(read_frames(path), num_frames)]
    clip = np.stack(frames)
    return clip[:, : clip.shape[1] // 4 * 4, : clip.shape[2] // 4 * 4]


def write_lossless(path: Path, clip: np.ndarray) -> Path:
    """Write FFV1 in RGB."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "bgr0"
        for pixels in clip:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def legato_options(settings: Mapping[str, Any]) -> legato.UpscaleOptions:
    """Return options from flat settings, output in FFV1."""
    options = legato.UpscaleOptions.from_json(dict(settings))
    return replace(options, output=legato.CodecOptions(codec="ffv1"))


def legato_upscale(clip: np.ndarray, folder: Path, settings: Mapping[str, Any]) -> np.ndarray:
    """Send a clip through files and `legato.upscale`, and read the result back."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target = write_lossless(folder / "in.mkv", clip), folder / "out.mkv"
    legato.upscale(source, target, legato_options(settings), run=legato.RunOptions(restart=True))
    return np.stack([frame.pixels for frame in read_frames(target)])


def upscale_command(source: Path, target: Path, *flags: str) -> list[str]:
    """Return the command line that users give, for a process of its own."""
    job = [sys.executable, "-m", "legato.apps.entry", "upscale", str(source), str(target)]
    return [*job, "--quiet", *flags]


def save_crops(path: Path, pictures: Mapping[str, np.ndarray], size_px: int = 256) -> None:
    """Save the same crop of several pictures beside each other, names above, the most detailed."""
    first = next(iter(pictures.values()))
    rows, cols = first.shape[:2]
    size = min(size_px, rows, cols)
    detail = np.abs(cv2.Laplacian(first.astype(np.float32).mean(-1), cv2.CV_32F))
    sums = cv2.boxFilter(detail, -1, (size, size))[size // 2 : rows - size // 2 + 1]
    top, left = np.unravel_index(
        np.argmax(sums[:, size // 2 : cols - size // 2 + 1]), (rows - size + 1, cols - size + 1)
    )
    tiles = []
    for name, picture in pictures.items():
        tile = np.full((size + 24, size, 3), 255, np.uint8)
        tile[24:] = picture[top : top + size, left : left + size]
        cv2.putText(tile, name, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(tiles, axis=1)[..., ::-1])
