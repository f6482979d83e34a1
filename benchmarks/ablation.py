"""What each way of holding frames together contributes, at eight steps.

    python benchmarks/ablation.py CLIPS --lpips WEIGHTS [--severity s2] [--frames N]

Temporal layers on/off x temporal decoder on/off x propagation none/early/middle/late.
Exit code 1: layers or propagation do not pay.
"""

import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from variants import Variant, arguments_of, conclude, measure

from legato.evaluation.report import Bar, Scores
from legato.pipelines.restore_options import RestoreOptions

STEPS = 8
BEATS = 0.99  # to beat is to be at least one percent better
PHASES = ("none", "early", "middle", "late")


def variants() -> dict[str, Variant]:
    """Return every combination by name."""
    found = {}
    for layers, decoder, phase in product((False, True), (False, True), PHASES):
        marks = ["-+"[on] for on in (layers, decoder)]
        found[f"layers {marks[0]} decoder {marks[1]} propagation {phase}"] = Variant(
            options=RestoreOptions(
                num_inference_steps=STEPS, consistency="temporal,propagation", propagate=phase
            ),
            layers=layers,
            decoder=decoder,
        )
    return found


def bars(rows: Mapping[str, Scores]) -> list[Bar]:
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
    arguments = arguments_of(__doc__, Path("runs/ablation.json"))
    rows = measure(arguments, variants())
    return conclude(rows, bars(rows), arguments.out)


if __name__ == "__main__":
    sys.exit(main())
