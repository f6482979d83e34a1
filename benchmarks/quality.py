"""Quality against bicubic and Real-ESRGAN on the same clips in one run.

    python benchmarks/quality.py CLIPS --lpips WEIGHTS [--peers none|fast|all] [--settings default]

CLIPS is a folder of clean videos. Each is damaged with severities s1 to s3, enlarged four times by
every method, and compared with itself. Exit code 1: a bar of the default settings is missed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from media import legato_upscale, read_clip, save_crops
from peers import NcnnUpscaler, Upscaler, available, bicubic

from legato.evaluation.datasets import SEVERITIES, degrade, seed_of
from legato.evaluation.report import (
    Bar,
    Judge,
    Scores,
    find_distance,
    mean_scores,
    table,
    to_json,
)
from legato.evaluation.vmaf import find_vmaf

SETTINGS = {
    "default": {},
    "steps4": {"num_inference_steps": 4},
    "steps8": {"num_inference_steps": 8},
    "propagation": {"consistency": "temporal,propagation"},
    "frames": {"consistency": "none"},
}
PEERS = {"none": (), "fast": ("animevideov3",), "all": ("animevideov3", "x4plus")}
OURS = "legato default"


def methods(peers: str, settings: Sequence[str], model: str, folder: Path) -> dict[str, Upscaler]:
    """Return every method by name, bicubic first."""
    chosen: dict[str, Upscaler] = {"bicubic": bicubic}
    for name in PEERS[peers]:
        chosen[name] = NcnnUpscaler(name)
    for name in settings:
        options = SETTINGS[name] | {"model": model}
        chosen[f"legato {name}"] = partial(legato_upscale, folder=folder, settings=options)
    return chosen


def bars(rows: Mapping[str, Scores], where: str) -> list[Bar]:
    """Return what the default settings are held to: bicubic's figures, and x4plus's if it ran."""
    ours, base, peer = rows[OURS], rows["bicubic"], rows.get("x4plus")
    found = [
        Bar(name=f"{where} PSNR, dB", value=ours.psnr, limit=base.psnr, at_least=True),
        Bar(name=f"{where} lattice", value=ours.lattice, limit=1.3),
        Bar(name=f"{where} warping", value=ours.warping, limit=base.warping),
    ]
    if ours.lpips is not None and base.lpips is not None:
        below = 0.55 * base.lpips if peer is None or peer.lpips is None else peer.lpips
        found.append(Bar(name=f"{where} LPIPS", value=ours.lpips, limit=below))
    if ours.vmaf is not None:
        others = [row.vmaf for row in (base, peer) if row is not None and row.vmaf is not None]
        best = max(others, default=0.0)
        found.append(Bar(name=f"{where} VMAF", value=ours.vmaf, limit=best, at_least=True))
    return found


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, list[Scores]]]:
    """Return severity -> method -> scores of each clip."""
    distance, reason = find_distance(arguments.lpips)
    if reason:
        print(reason)
    vmaf, reason = find_vmaf()
    if reason:
        print(reason)
    chosen = methods(arguments.peers, arguments.settings, arguments.model, folder)
    results: dict[str, dict[str, list[Scores]]] = {
        severity: {name: [] for name in chosen} for severity in arguments.severities
    }
    paths = [path for path in sorted(arguments.clips.iterdir()) if path.suffix != ".csv"]
    for path in paths:
        truth = read_clip(path, arguments.frames)
        judge = Judge(truth, distance, vmaf)
        for severity in arguments.severities:
            rng = np.random.default_rng(seed_of(path.stem))
            small = degrade(truth, SEVERITIES[severity], rng)
            pictures = {"truth": truth[len(truth) // 2]}
            for name, enlarge in chosen.items():
                large = enlarge(small)
                results[severity][name].append(judge(large))
                pictures[name] = large[len(large) // 2]
            save_crops(arguments.out / f"{path.stem}_{severity}.png", pictures)
            print(f"{path.stem} {severity} done", file=sys.stderr)
    return results


def main() -> int:
    """Measure, print tables and bars, save them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--lpips", type=Path, help="safetensors file with LPIPS weights")
    parser.add_argument("--peers", choices=PEERS, default="all" if available() else "none")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["default"])
    parser.add_argument("--severities", nargs="+", choices=SEVERITIES, default=list(SEVERITIES))
    parser.add_argument("--frames", type=int, help="only the first ones of each clip")
    parser.add_argument("--model", default="embedded-x4")
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(arguments, Path(folder))
    tables = {
        severity: {name: mean_scores(scores) for name, scores in rows.items()}
        for severity, rows in results.items()
    }
    tables["mean"] = {
        name: mean_scores([rows[name] for rows in tables.values()])
        for name in next(iter(tables.values()))
    }
    verdicts: list[Bar] = []
    for severity, rows in tables.items():
        print(f"\n### {severity}\n\n{table(rows, 'bicubic')}\n")
        if OURS in rows:
            verdicts += bars(rows, severity)
    print("\n".join(map(str, verdicts)))
    report = {severity: to_json(rows) for severity, rows in tables.items()}
    (arguments.out / "quality.json").write_text(json.dumps(report, indent=1))
    return 0 if all(bar.passed for bar in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
