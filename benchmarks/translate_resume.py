"""A translated video of 300 frames: bounded memory, and after kills the frames of a whole run.

    python benchmarks/translate_resume.py [--frames 60 300] [--steps 4] [--consistency fresco]

A rendered drive of 128x64 becomes night, each run in a process of its own. The longer one is then
killed outright (SIGKILL) when half of its batches are finished, started again, killed when some
segments are written, and finished. Exit code 1: a bar is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from media import write_lossless
from memory import GIB, peak_bytes
from resume import decoded, run

from legato.evaluation.report import Bar
from legato.pipelines.workfolder import WorkFolder
from legato.training.driving.render import World

RATE = 25
KEYS, WRITTEN = "latents_keys_*", "segment_*"
"""Names of finished batches and segments in a work folder."""


def command(source: Path, target: Path, options: argparse.Namespace) -> list[str]:
    """Return the command line that users give."""
    job = [sys.executable, "-m", "legato.apps.entry", "translate", str(source), str(target)]
    chosen = ["--model", options.model, "--prompt", "night", "--consistency", options.consistency]
    return [*job, "--quiet", *chosen, "--steps", str(options.steps), "--codec", "ffv1"]


def kill_when(arguments: list[str], folder: Path, pattern: str, count: int) -> bool:
    """Kill a command once so many parts are finished; return whether it was still running."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if len(list(folder.glob(pattern))) >= count:
            process.kill()
            process.wait()
            return True
        time.sleep(0.05)
    return False


def main() -> int:
    """Translate both lengths, kill and resume the longer one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs=2, default=(60, 300))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--consistency", default="fresco")
    parser.add_argument("--model", default="driving")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("runs/translate_resume.json"))
    options = parser.parse_args()
    short, long = options.frames
    peaks: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, _ = World(options.seed).clip([frame / RATE for frame in range(long)])
        print(
            "| frames | key frames | batches | seconds | peak GiB |\n|--:|--:|--:|--:|--:|",
            flush=True,
        )
        for count in (short, long):
            source = write_lossless(folder / f"{count}.mkv", clip[:count])
            target = folder / f"whole_{count}.mkv"
            peaks[count] = peak_bytes(command(source, target, options)) / GIB
            report = json.loads(target.with_name(f"{target.name}.legato.json").read_text())
            keys, batches, seconds = (report[x] for x in ("key_frames", "batches", "seconds"))
            print(
                f"| {count} | {keys} | {batches} | {seconds:.1f} | {peaks[count]:.3f} |", flush=True
            )
        again, work = folder / "again.mkv", WorkFolder(folder / "again.mkv").path
        arguments = command(source, again, options)
        stages = ((KEYS, max(batches // 2, 1)), (WRITTEN, max(long // 128, 1)))
        killed = [kill_when(arguments, work, *stage) for stage in stages]
        run(arguments)
        resumed = json.loads(again.with_name(f"{again.name}.legato.json").read_text())
        (times, frames), (other_times, other) = decoded(target), decoded(again)
        differing = int((frames != other).any(axis=(1, 2, 3)).sum()) + (times != other_times)
    print(f"killed {sum(killed)} times; {resumed['parts_resumed']} parts kept at the last start")
    bars = [
        Bar(name="kills", value=sum(killed), limit=2, at_least=True),
        Bar(name="frames", value=len(other), limit=long, at_least=True),
        Bar(name="differing frames", value=differing, limit=0),
        Bar(name=f"peak of {long} over {short}", value=peaks[long] / peaks[short], limit=1.1),
    ]
    print("\n".join(map(str, bars)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    kept = {"peak_gib": peaks, "differing": differing, "parts_kept": resumed["parts_resumed"]}
    options.out.write_text(json.dumps(kept | {"seconds": seconds}, indent=1))
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
