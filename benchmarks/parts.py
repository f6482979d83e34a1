"""What the parts of the model contribute, at its default settings.

    python benchmarks/parts.py CLIPS --lpips WEIGHTS [--severity s2] [--frames N]

The decoder sees the low-resolution clip too; with zeroed or shuffled latents the result must be
clearly worse, or it does the work alone. Likewise with temporal layers off. Exit code 1: it is not.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from variants import Variant, arguments_of, conclude, measure

from legato.evaluation.report import Bar, Scores
from legato.pipelines.restore_options import RestoreOptions

CLEARLY = 1.05
"""Clearly worse: by at least five percent."""


def shuffled(latents: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
    """Move every latent cell to another place, the same in all frames."""
    rows, cols = latents.shape[-2:]
    order = torch.randperm(rows * cols, generator=torch.Generator().manual_seed(0))
    return latents.flatten(-2)[..., order].unflatten(-1, (rows, cols))


def variants() -> dict[str, Variant]:
    """Return the model whole and without each of its parts, propagation off."""
    alone = RestoreOptions(consistency="temporal")
    return {
        "whole": Variant(options=alone),
        "latents zeroed": Variant(options=alone, change=torch.zeros_like),
        "latents shuffled": Variant(options=alone, change=shuffled),
        "temporal layers off": Variant(options=RestoreOptions(consistency="none")),
    }


def bars(rows: Mapping[str, Scores]) -> list[Bar]:
    """Return that the whole is clearly better than what lacks a part."""
    whole = rows["whole"]
    found = [
        Bar(
            name="warping error against layers off",
            value=CLEARLY * whole.warping,
            limit=rows["temporal layers off"].warping,
        )
    ]
    if whole.lpips is not None:
        found += [
            Bar(
                name=f"LPIPS against {name}",
                value=CLEARLY * whole.lpips,
                limit=rows[name].lpips or 0.0,
            )
            for name in ("latents zeroed", "latents shuffled")
        ]
    return found


def main() -> int:
    """Measure, print the table and bars, save them as JSON."""
    arguments = arguments_of(__doc__, Path("runs/parts.json"))
    rows = measure(arguments, variants())
    return conclude(rows, bars(rows), arguments.out)


if __name__ == "__main__":
    sys.exit(main())
