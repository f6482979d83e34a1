"""Variants of one model on the same clips: what `ablation`, `parts` and `fresco_shares` share.

One segment per clip; nothing is written between model and measure.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from media import read_clip, save_crops
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


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of running the model."""

    options: RestoreOptions = field(default_factory=RestoreOptions)
    layers: bool = True
    """Whether the U-Net's temporal layers are on."""
    decoder: bool = True
    """Whether the decoder's temporal layers are on."""
    change: Callable[[Tensor], Tensor] | None = None
    """What happens to the latents before they are decoded."""


@dataclass(frozen=True, kw_only=True)
class Altered(UpscalerModel):
    """The same model, decoded as a variant wants it."""

    variant: Variant

    def decode(
        self,
        latents: Float[Tensor, "B T C h w"],
        low_res: Float[Tensor, "B T 3 h w"],
        *,
        temporal: bool = True,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return frames."""
        change = self.variant.change or (lambda same: same)
        return super().decode(change(latents), low_res, temporal=temporal and self.variant.decoder)

    def open_stream(self, wanted: range) -> None:
        """Return None: `decode` is to be used."""


def arguments_of(doc: str, out: Path) -> argparse.Namespace:
    """Parse the command line that these benchmarks have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--lpips", type=Path, help="safetensors file with LPIPS weights")
    parser.add_argument("--severity", choices=SEVERITIES, default="s2")
    parser.add_argument("--frames", type=int, help="only the first ones of each clip")
    parser.add_argument("--crop", type=int, help="only so many rows and columns, in the middle")
    parser.add_argument("--model", default="embedded-x4")
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


def measure(
    arguments: argparse.Namespace,
    variants: Mapping[str, Variant],
    *,
    pictures: Path | None = None,
) -> dict[str, Scores]:
    """Return the mean scores of bicubic, of the truth itself and of every variant; print them.

    Args:
        arguments: of the command line.
        variants: by name.
        pictures: folder for a crop of each clip's middle frame in every variant; None: no pictures.
    """
    distance, reason = find_distance(arguments.lpips)
    if reason:
        print(reason)
    device = choose_device("auto")
    model = load_upscaler(arguments.model, device, choose_dtype("auto", device))
    results: dict[str, list[Scores]] = {name: [] for name in ("bicubic", "truth", *variants)}
    for path in sorted(path for path in arguments.clips.iterdir() if path.suffix != ".csv"):
        truth = cropped(read_clip(path, arguments.frames), arguments.crop)
        judge = Judge(truth, distance)
        rng = np.random.default_rng(seed_of(path.stem))
        small = degrade(truth, SEVERITIES[arguments.severity], rng)
        results["bicubic"].append(judge(bicubic(small)))
        results["truth"].append(judge(truth))
        shown = {"truth": truth[len(truth) // 2]}
        for name, variant in variants.items():
            large = restore(model, small, variant)
            results[name].append(judge(large))
            shown[name] = large[len(large) // 2]
        if pictures is not None:
            save_crops(pictures / f"{path.stem}.png", shown, size_px=192)
        print(f"{path.stem} done", file=sys.stderr)
    rows = {name: mean_scores(scores) for name, scores in results.items()}
    print(f"severity {arguments.severity}\n\n{table(rows, 'bicubic')}\n")
    return rows


def cropped(clip: np.ndarray, side: int | None) -> np.ndarray:
    """Return the middle of a clip `T H W 3`, a multiple of four pixels from its corner."""
    if side is None:
        return clip
    top, left = (max(whole - side, 0) // 8 * 4 for whole in clip.shape[1:3])
    return clip[:, top : top + side, left : left + side]


def restore(model: UpscalerModel, small: np.ndarray, variant: Variant) -> np.ndarray:
    """Return a clip `T h w 3` enlarged in one segment."""
    device = choose_device("auto")
    if not variant.decoder or variant.change:
        parts = {each.name: getattr(model, each.name) for each in fields(UpscalerModel)}
        model = Altered(variant=variant, **parts)
    restorer = Restorer(
        model,
        variant.options,
        device=device,
        dtype=choose_dtype("auto", device),
        estimator=choose_estimator("dis", device=device),
    )
    frames = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1
    with nullcontext() if variant.layers else model.unet.disabled():
        large, _ = restorer(frames, range(len(frames)), num_anchors=0, num_lookahead=0, state=None)
    levels = ((large + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).numpy()


def conclude(rows: Mapping[str, Scores], verdicts: Sequence[Bar], out: Path) -> int:
    """Print the bars, save the scores as JSON, and return the exit code."""
    print("\n".join(map(str, verdicts)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(to_json(rows), indent=1))
    return 0 if all(bar.passed for bar in verdicts) else 1
