"""Frames per second end to end, 320x180 to 1280x720, against x4plus in the same run.

    python benchmarks/speed.py [CLIP] [--frames 96] [--peer-frames 3]

Legato: the whole command, from its start to the finished file, at default settings. x4plus: its
network alone, already loaded. Run it on an idle machine. Exit code 1: less than 15 times faster.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from media import read_clip, upscale_command, write_lossless
from peers import NcnnUpscaler

from legato.evaluation.report import Bar

SIZE = (320, 180)
DEMO = Path(__file__).parents[1] / "demo" / "clip.mp4"


def clip_of(path: Path, num_frames: int) -> np.ndarray:
    """Return a clip of the wanted length at 320x180, repeated back and forth if it is short."""
    frames = [cv2.resize(picture, SIZE) for picture in read_clip(path)]
    swing = frames + frames[-2:0:-1]
    return np.stack([swing[index % len(swing)] for index in range(num_frames)])


def main() -> int:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?", default=DEMO)
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--peer-frames", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/speed.json"))
    arguments = parser.parse_args()
    clip = clip_of(arguments.clip, arguments.frames)
    with tempfile.TemporaryDirectory() as folder:
        source = write_lossless(Path(folder) / "in.mkv", clip)
        target = Path(folder) / "out.mp4"
        began = time.perf_counter()
        subprocess.run(upscale_command(source, target), check=True)
        ours = (time.perf_counter() - began) / len(clip)
        report = json.loads(target.with_name("out.mp4.legato.json").read_text())
    peer = NcnnUpscaler("x4plus")
    began = time.perf_counter()
    peer(clip[: arguments.peer_frames])
    theirs = (time.perf_counter() - began) / arguments.peer_frames
    print(f"legato {ours:.3f} s per frame end to end ({1 / ours:.2f} frames/s)")
    print(f"  of that restoring: {1 / report['frames_per_second']:.3f} s per frame")
    print(f"x4plus {theirs:.3f} s per frame")
    bar = Bar(name="times faster than x4plus", value=theirs / ours, limit=15, at_least=True)
    print(bar)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"legato_s": ours, "x4plus_s": theirs, "ratio": bar.value, "frames": len(clip)}
    arguments.out.write_text(json.dumps(result, indent=1))
    return 0 if bar.passed else 1


if __name__ == "__main__":
    sys.exit(main())
