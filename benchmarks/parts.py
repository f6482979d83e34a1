"""What the parts of the model contribute, at its default settings.

    python benchmarks/parts.py CLIPS --lpips WEIGHTS [--severity s2] [--frames N]

The decoder sees the low-resolution clip too; with zeroed or shuffled latents the result must be
clearly worse, or it does the work alone. Likewise with temporal layers off. Exit code 1: it is not.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
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

CLEARLY = 1.05
"""Clearly worse: by at least five percent."""


@dataclass(frozen=True, kw_only=True)
class Tampered(UpscalerModel):
    """The same model with its latents changed before they are decoded."""

    change: Callable[[Tensor], Tensor]

    def decode(
        self,
        latents: Float[Tensor, "B T C h w"],
        low_res: Float[Tensor, "B T 3 h w"],
        *,
        temporal: bool = True,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return frames of the changed latents."""
        return super().decode(self.change(latents), low_res, temporal=temporal)

    def open_stream(self) -> None:
        """Return None: `decode` is to be used."""


def shuffled(latents: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
    """Move every latent cell to another place, the same in all frames."""
    rows, cols = latents.shape[-2:]
    order = torch.randperm(rows * cols, generator=torch.Generator().manual_seed(0))
    return latents.flatten(-2)[..., order].unflatten(-1, (rows, cols))


def tampered(model: UpscalerModel, change: Callable[[Tensor], Tensor]) -> Tampered:
    """Return the model with a change to its latents."""
    parts = {each.name: getattr(model, each.name) for each in fields(UpscalerModel)}
    return Tampered(change=change, **parts)


def restore(
    model: UpscalerModel, small: np.ndarray, consistency: str, dtype: torch.dtype
) -> np.ndarray:
    """Return a clip `T h w 3` enlarged in one segment."""
    device = choose_device("auto")
    restorer = Restorer(
        model,
        RestoreOptions(consistency=consistency),
        device=device,
        dtype=dtype,
        estimator=choose_estimator("dis", device=device),
    )
    frames = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1
    large, _ = restorer(frames, range(len(frames)), num_anchors=0, num_lookahead=0, state=None)
    levels = ((large + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).numpy()


def main() -> int:
    """Measure, print the table and bars, save them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--lpips", type=Path)
    parser.add_argument("--severity", choices=SEVERITIES, default="s2")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--model", default="embedded-x4")
    parser.add_argument("--out", type=Path, default=Path("runs/parts.json"))
    arguments = parser.parse_args()
    distance, reason = find_distance(arguments.lpips)
    print(reason)
    dtype = choose_dtype("auto", choose_device("auto"))
    model = load_upscaler(arguments.model, choose_device("auto"), dtype)
    variants = {
        "whole": (model, "temporal"),
        "latents zeroed": (tampered(model, torch.zeros_like), "temporal"),
        "latents shuffled": (tampered(model, shuffled), "temporal"),
        "temporal layers off": (model, "none"),
    }
    results: dict[str, list[Scores]] = {"bicubic": []} | {name: [] for name in variants}
    for path in sorted(path for path in arguments.clips.iterdir() if path.suffix != ".csv"):
        truth = read_clip(path, arguments.frames)
        judge = Judge(truth, distance)
        rng = np.random.default_rng(seed_of(path.stem))
        small = degrade(truth, SEVERITIES[arguments.severity], rng)
        results["bicubic"].append(judge(bicubic(small)))
        for name, (variant, consistency) in variants.items():
            results[name].append(judge(restore(variant, small, consistency, dtype)))
    rows = {name: mean_scores(scores) for name, scores in results.items()}
    print(f"severity {arguments.severity}\n\n{table(rows, 'bicubic')}\n")
    whole = rows["whole"]
    bars = [
        Bar(
            name="warping error against layers off",
            value=CLEARLY * whole.warping,
            limit=rows["temporal layers off"].warping,
        )
    ]
    if whole.lpips is not None:
        bars += [
            Bar(
                name=f"LPIPS against {name}",
                value=CLEARLY * whole.lpips,
                limit=rows[name].lpips or 0.0,
            )
            for name in ("latents zeroed", "latents shuffled")
        ]
    print("\n".join(map(str, bars)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(to_json(rows), indent=1))
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
