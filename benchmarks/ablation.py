"""What each way of holding frames together contributes, at eight steps.

    python benchmarks/ablation.py CLIPS --lpips WEIGHTS [--severity s2] [--frames N]

Temporal layers on/off x temporal decoder on/off x propagation none/early/middle/late. One segment
per clip, nothing written between model and measure. Exit code 1: layers or propagation do not pay.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from media import read_clip
from peers import bicubic
from torch import Tensor

from legato.device import choose_device, choose_dtype
from legato.evaluation.datasets import SEVERITIES, degrade, seed_of
from legato.evaluation.report import Bar, Judge, Scores, find_distance, mean_scores, table, to_json
from legato.flow.estimate import choose_estimator
from legato.models.load import load_upscaler
from legato.models.upscaler import UpscalerModel
from legato.pipelines.restore import Restorer
from legato.pipelines.restore_options import RestoreOptions

STEPS = 8
BEATS = 0.99  # to beat is to be at least one percent better
PHASES = ("none", "early", "middle", "late")


@dataclass(frozen=True, kw_only=True)
class FrameDecoded(UpscalerModel):
    """The same model, but every frame decoded on its own."""

    def decode(
        self,
        latents: Float[Tensor, "B T C h w"],
        low_res: Float[Tensor, "B T 3 h w"],
        *,
        temporal: bool = True,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return frames; `temporal` is ignored."""
        del temporal
        return super().decode(latents, low_res, temporal=False)

    def open_stream(self) -> None:
        """Return None: the stream of the embedded decoder always uses its temporal layers."""


def frame_decoded(model: UpscalerModel) -> FrameDecoded:
    """Return the model with its decoder's temporal convolutions off."""
    return FrameDecoded(**{each.name: getattr(model, each.name) for each in fields(UpscalerModel)})


def variants() -> Iterator[tuple[str, bool, bool, str]]:
    """Yield name, temporal layers, temporal decoder and phase of propagation."""
    for layers, decoder, phase in product((False, True), (False, True), PHASES):
        marks = ["-+"[on] for on in (layers, decoder)]
        yield f"layers {marks[0]} decoder {marks[1]} propagation {phase}", layers, decoder, phase


def restore(
    model: UpscalerModel, small: np.ndarray, phase: str, *, layers: bool, dtype: torch.dtype
) -> np.ndarray:
    """Return a clip `T h w 3` enlarged in one segment."""
    options = RestoreOptions(
        num_inference_steps=STEPS, consistency="temporal,propagation", propagate=phase
    )
    device = choose_device("auto")
    restorer = Restorer(
        model, options, device=device, dtype=dtype, estimator=choose_estimator("dis", device=device)
    )
    frames = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1
    with nullcontext() if layers else model.unet.disabled():
        large, _ = restorer(frames, range(len(frames)), num_anchors=0, num_lookahead=0, state=None)
    levels = ((large + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).numpy()


def bars(rows: dict[str, Scores]) -> list[Bar]:
    """Return that layers beat no layers, and propagation beats none, all else on."""
    layers_off, full = rows["layers - decoder + propagation none"], "layers + decoder + propagation"
    none = rows[f"{full} none"].warping
    best = min(rows[f"{full} {phase}"].warping for phase in PHASES[1:])
    return [
        Bar(
            name="warping error, layers on against off",
            value=none,
            limit=BEATS * layers_off.warping,
        ),
        Bar(name="warping error, best propagation against none", value=best, limit=BEATS * none),
    ]


def main() -> int:
    """Measure, print the table and bars, save them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--lpips", type=Path)
    parser.add_argument("--severity", choices=SEVERITIES, default="s2")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--model", default="embedded-x4")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation.json"))
    arguments = parser.parse_args()
    distance, reason = find_distance(arguments.lpips)
    print(reason)
    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    model = load_upscaler(arguments.model, device, dtype)
    results: dict[str, list[Scores]] = {"bicubic": []} | {name: [] for name, *_ in variants()}
    for path in sorted(path for path in arguments.clips.iterdir() if path.suffix != ".csv"):
        truth = read_clip(path, arguments.frames)
        judge = Judge(truth, distance)
        rng = np.random.default_rng(seed_of(path.stem))
        small = degrade(truth, SEVERITIES[arguments.severity], rng)
        results["bicubic"].append(judge(bicubic(small)))
        for name, layers, decoder, phase in variants():
            variant = model if decoder else frame_decoded(model)
            large = restore(variant, small, phase, layers=layers, dtype=dtype)
            results[name].append(judge(large))
        print(f"{path.stem} done", file=sys.stderr)
    rows = {name: mean_scores(scores) for name, scores in results.items()}
    print(f"{STEPS} steps, severity {arguments.severity}\n\n{table(rows, 'bicubic')}\n")
    verdicts = bars(rows)
    print("\n".join(map(str, verdicts)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(to_json(rows), indent=1))
    return 0 if all(bar.passed for bar in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
