"""Killed at random moments and started again, a job gives the frames of an uninterrupted one.

    python benchmarks/resume.py [--kills 10] [--frames 72] [--segment 4] [--seed 0]

Each time the process is killed outright (SIGKILL) at a random moment of the time that a whole run
takes, then the same command is given again. Exit code 1: a frame or a time differs.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from media import read_clip, upscale_command, write_lossless
from speed import DEMO

from legato.video.read import read_frames

SIZE = (96, 64)
RESUMED = "segments_resumed"


def command(source: Path, target: Path, segment: int) -> list[str]:
    """Return the command line of one job."""
    return upscale_command(source, target, "--segment", str(segment), "--codec", "ffv1")


def run(arguments: list[str]) -> None:
    """Run a command to its end."""
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after(arguments: list[str], seconds: float) -> bool:
    """Start a command and kill it; return whether it was still running."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def decoded(path: Path) -> tuple[list[int], np.ndarray]:
    """Return the times and frames of a finished file."""
    frames = list(read_frames(path))
    return [frame.pts for frame in frames], np.stack([frame.pixels for frame in frames])


def attempt(whole: Path, arguments: list[str], seconds: float) -> tuple[bool, int]:
    """Kill, start again, compare; return whether all is the same, and the segments resumed."""
    target = Path(arguments[5])
    killed = kill_after(arguments, seconds)
    if killed and target.exists():
        print("  the file was already in place when the process was killed")
    run(arguments)
    (times, frames), (other_times, other) = decoded(whole), decoded(target)
    report = json.loads(target.with_name(f"{target.name}.legato.json").read_text())
    return times == other_times and np.array_equal(frames, other), report[RESUMED]


def main() -> int:
    """Run once undisturbed, then kill and resume."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, default=DEMO)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--frames", type=int, default=72)
    parser.add_argument("--segment", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = np.stack([cv2.resize(frame, SIZE) for frame in read_clip(options.clip)])
        source = write_lossless(folder / "in.mkv", clip[: options.frames])
        whole = folder / "whole.mkv"
        began = time.perf_counter()
        run(command(source, whole, options.segment))
        duration = time.perf_counter() - began
        print(f"a whole run takes {duration:.1f} s")
        for index in range(options.kills):
            place = folder / str(index)
            place.mkdir()
            seconds = float(rng.uniform(0, duration))
            arguments = command(source, place / "out.mkv", options.segment)
            same, resumed = attempt(whole, arguments, seconds)
            failures += not same
            verdict = "identical" if same else "DIFFERENT"
            print(f"killed after {seconds:.1f} s: {resumed} segments kept, {verdict}", flush=True)
            shutil.rmtree(place)
    print(f"{options.kills - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
