"""What each part of FRESCO contributes to zero-shot upscaling, at eight steps.

    python benchmarks/fresco_shares.py CLIPS --lpips WEIGHTS [--frames N] [--crop PX]

The image model alone: its temporal layers and those of its decoder are off. The warping error is
the masked Pixel-MSE; everything is `fresco` with propagation at all steps. A picture of every clip
shows the same crop of each row. Exit code 1: parts do not add up, or all of them do not halve the
error, or `fresco` is not steadier at equal quality.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from variants import Variant, arguments_of, conclude, measure

from legato.evaluation.report import Bar, Scores
from legato.pipelines.consistency import NEIGHBOURS
from legato.pipelines.restore_options import RestoreOptions

STEPS = 8
ALONE, CROSS, TEMPORAL, FRESCO, ALL = (
    "per frame",
    "cross-frame",
    "cross-frame + temporal",
    "fresco",
    "everything",
)
WAYS = {
    ALONE: "none",
    "shared noise": "shared-noise",
    CROSS: "shared-noise,cross-frame",
    TEMPORAL: "shared-noise,cross-frame,temporal-guided",
    "attention": "shared-noise,cross-frame,temporal-guided,spatial-guided",
    "features": "shared-noise,features",
    "propagation": "propagation",
    "fusion": "fusion",
    FRESCO: "fresco",
    ALL: "fresco",
}
EVERY_STEP = ",".join(map(str, range(STEPS)))


def variants() -> dict[str, Variant]:
    """Return every way by name, those of other systems last."""
    others = {f"({name})": f"shared-noise,{name}" for name in NEIGHBOURS}
    found = {}
    for name, way in (WAYS | others).items():
        options = RestoreOptions(num_inference_steps=STEPS, consistency=way)
        found[name] = Variant(options=options)
    found[ALL] = Variant(options=replace(found[ALL].options, propagate=EVERY_STEP))
    return found


def bars(rows: Mapping[str, Scores]) -> list[Bar]:
    """Return what the parts must achieve, relative to frames on their own."""
    alone, fresco = rows[ALONE], rows[FRESCO]
    found = [
        Bar(name=f"{CROSS}, warping", value=rows[CROSS].warping, limit=alone.warping),
        Bar(name=f"{TEMPORAL}, warping", value=rows[TEMPORAL].warping, limit=rows[CROSS].warping),
        Bar(name=f"{ALL}, warping", value=rows[ALL].warping, limit=0.5 * alone.warping),
        Bar(name=f"{FRESCO}, warping", value=fresco.warping, limit=0.7 * alone.warping),
    ]
    if fresco.lpips is not None and alone.lpips is not None:
        found.append(Bar(name=f"{FRESCO}, LPIPS", value=fresco.lpips, limit=1.02 * alone.lpips))
    return found


def main() -> int:
    """Measure, print the table and bars, save them as JSON and pictures beside it."""
    arguments = arguments_of(__doc__, Path("runs/fresco_shares.json"))
    rows = measure(arguments, variants(), pictures=arguments.out.parent)
    return conclude(rows, bars(rows), arguments.out)


if __name__ == "__main__":
    sys.exit(main())
