"""Peak memory does not grow with a video's length.

    python benchmarks/memory.py [--frames 60 600]

Each length is upscaled in a process of its own, whose peak resident memory the system reports.
Exit code 1: the longer one needs over 1.1 times the memory, or over 2 GiB.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from media import upscale_command, write_lossless
from speed import DEMO, clip_of

from legato.evaluation.report import Bar

GIB = 1024**3


def peak_bytes(arguments: list[str]) -> int:
    """Return the peak resident memory of a command."""
    process = subprocess.Popen(arguments)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    """Measure a short and a long video."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, default=DEMO)
    parser.add_argument("--frames", type=int, nargs=2, default=(60, 600))
    parser.add_argument("--out", type=Path, default=Path("runs/memory.json"))
    arguments = parser.parse_args()
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.frames:
            clip = clip_of(arguments.clip, count)
            source = write_lossless(Path(folder) / f"{count}.mkv", clip)
            del clip
            peaks[count] = peak_bytes(upscale_command(source, Path(folder) / f"{count}.mp4"))
            print(f"{count} frames: peak {peaks[count] / GIB:.3f} GiB", flush=True)
    short, long = arguments.frames
    bars = [
        Bar(name=f"peak of {long} over {short}", value=peaks[long] / peaks[short], limit=1.1),
        Bar(name="peak at 1280x720, GiB", value=peaks[long] / GIB, limit=2.0),
    ]
    print("\n".join(map(str, bars)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(peaks, indent=1))
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
