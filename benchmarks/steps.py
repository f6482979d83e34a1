"""How few steps suffice: one to thirty of them, by each solver.

    python benchmarks/steps.py CLIPS --lpips WEIGHTS [--severity s2] [--frames N]

Exit code 1: eight steps of a solver that looks back are not within 0.01 LPIPS of thirty of DDIM.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from variants import Variant, arguments_of, conclude, measure

from legato.evaluation.report import Bar, Scores
from legato.pipelines.restore_options import RestoreOptions

MOST, FEW = 30, 8
NEAR = 0.01
STEPS = {"ddim": (MOST, FEW, 4, 2, 1), "dpm++": (FEW, 4), "unipc": (FEW, 4)}


def variants() -> dict[str, Variant]:
    """Return every number of steps of every solver by name; at one and two they are the same."""
    return {
        f"{solver} {steps}": Variant(
            options=RestoreOptions(num_inference_steps=steps, solver=solver)  # type: ignore[arg-type]
        )
        for solver, numbers in STEPS.items()
        for steps in numbers
    }


def bars(rows: Mapping[str, Scores]) -> list[Bar]:
    """Return that few steps come near many."""
    many = rows[f"ddim {MOST}"].lpips
    if many is None:
        return []
    return [
        Bar(
            name=f"LPIPS of {FEW} steps of {solver} over {MOST} of ddim",
            value=(rows[f"{solver} {FEW}"].lpips or 0.0) - many,
            limit=NEAR,
        )
        for solver in ("dpm++", "unipc")
    ]


def main() -> int:
    """Measure, print the table and bars, save them as JSON."""
    arguments = arguments_of(__doc__, Path("runs/steps.json"))
    rows = measure(arguments, variants())
    return conclude(rows, bars(rows), arguments.out)


if __name__ == "__main__":
    sys.exit(main())
