"""A minute of generated driving: whether colours drift, whether it moves, what memory it takes.

    python benchmarks/minute.py [--videos 16] [--first 0] [--steps N] [--key-frames]

Every video has the labels of a held-back world and is made by a command of its own, key frames from
the last two before them. Its last five seconds are compared with its first five, and so are those
of the world's own renders at the same times. Exit code 1: a bar is missed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from media import read_clip
from memory import peak_bytes
from numpy import ndarray

from legato.evaluation.driving_state import colour_drift
from legato.evaluation.report import Bar
from legato.training.driving.clips import HELD_BACK_FROM
from legato.training.driving.render import World

MINUTE, SHORT, END = 60.0, 15.0, 5.0  # seconds
BEGINS = 10.0  # seconds into a world's drive


def main() -> int:
    """Make the videos, measure, print the table and bars, save them as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--first", type=int, default=0, help="the first world of them")
    parser.add_argument("--steps", type=int, help="of key frames; default: the model's own")
    parser.add_argument("--key-frames", action="store_true", help="without the frames between")
    parser.add_argument("--model", default="driving")
    parser.add_argument("--keep", type=Path, help="folder for the videos; default: none is kept")
    parser.add_argument("--out", type=Path, default=Path("runs/minute.json"))
    arguments = parser.parse_args()
    flags = ["--model", arguments.model]
    flags += ["--num-inference-steps", str(arguments.steps)] if arguments.steps else []
    flags += ["--interpolations", "0"] if arguments.key_frames else []
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        short = peak_bytes(command(World(HELD_BACK_FROM), folder / "short.mkv", SHORT, flags))
        for number in range(arguments.first, arguments.first + arguments.videos):
            world, target = World(HELD_BACK_FROM + number), folder / f"{number}.mkv"
            peak = peak_bytes(command(world, target, MINUTE, flags))
            made = read_clip(target)
            times = BEGINS + MINUTE * np.arange(len(made)) / len(made)
            truth, _ = world.clip(times.tolist(), made.shape[1:3])
            memory = {"memory, GiB": peak / 2**30, "memory over a short one's": peak / short}
            rows.append({**memory, **compared(made, truth)})
            said = ", ".join(f"{name} {value:.3g}" for name, value in rows[-1].items())
            print(f"{target.stem} ({', '.join(world.labels.words)}): {said}", flush=True)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    for name, value in means.items():
        print(f"{name:<40}{value:10.3f}")
    kept = bars(means)
    print(*kept, sep="\n")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    found = {"videos": rows, "mean": means, "bars": list(map(asdict, kept))}
    arguments.out.write_text(json.dumps(found, indent=1))
    return 0 if all(bar.passed for bar in kept) else 1


def command(world: World, target: Path, seconds: float, flags: Sequence[str]) -> list[str]:
    """Return the command line that makes a video of a world's labels."""
    base = [sys.executable, "-m", "legato.apps.entry", "generate", ", ".join(world.labels.words)]
    base += ["-o", str(target), "--seconds", str(seconds), "--seed", str(world.seed)]
    return [*base, "--codec", "ffv1", "--quiet", *flags]


def compared(made: UInt8[ndarray, "T H W 3"], truth: UInt8[ndarray, "T H W 3"]) -> dict[str, float]:
    """Return how the ends of a video and of renders differ, in 8-bit units; motion as a ratio."""
    end = round(len(made) * END / MINUTE)
    found: dict[str, float] = {}
    for name, clip in (("generated", made), ("rendered", truth)):
        colour, contrast = colour_drift(clip, end)
        found |= {f"colour drift, {name}": colour, f"contrast drift, {name}": contrast}
        found[f"motion left, {name}"] = motion(clip[-end:]) / max(motion(clip[:end]), 1e-6)
    return found


def motion(clip: UInt8[ndarray, "T H W 3"]) -> float:
    """Return the mean absolute difference of neighbouring frames, 8-bit units."""
    return float(np.abs(np.diff(clip.astype(np.float32), axis=0)).mean())


def bars(means: dict[str, float]) -> list[Bar]:
    """Return what a minute must keep."""
    drifts = [
        Bar(
            name=f"{kind} drift over the renderer's",
            value=means[f"{kind} drift, generated"] / means[f"{kind} drift, rendered"],
            limit=1.2,
        )
        for kind in ("colour", "contrast")
    ]
    return [
        *drifts,
        Bar(name="motion left", value=means["motion left, generated"], limit=0.5, at_least=True),
        Bar(name="memory over a short one's", value=means["memory over a short one's"], limit=1.1),
        Bar(name="memory, GiB", value=means["memory, GiB"], limit=2.0),
    ]


if __name__ == "__main__":
    sys.exit(main())
