"""A row per clip, their mean and its 95% interval: as Markdown, LaTeX and plain values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from legato import __version__
from legato.evaluation.confidence import confidence_interval
from legato.evaluation.flicker_spectrum import frequencies
from legato.evaluation.measure import WITH_REFERENCE, WITHOUT_REFERENCE, ClipFigures, Figure
from legato.evaluation.registration import Registration
from legato.evaluation.whole_set import WholeFigure

NO_VALUE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured of all clips."""

    clips: tuple[ClipFigures, ...]
    figures: dict[str, Figure]
    """The columns: what at least one clip has."""
    means: dict[str, float]
    """Over clips; a figure that one clip lacks has none."""
    intervals: dict[str, tuple[float, float]]
    """95% intervals of the means; of one clip's figures over its frames where it is alone."""
    over: Literal["clips", "frames"]
    """What the intervals are taken over."""
    notices: tuple[str, ...]
    """What a reader of the figures should know."""
    whole: dict[str, WholeFigure] = field(default_factory=dict)
    """Figures of all clips together, as FVD."""


def summarise(
    clips: Sequence[ClipFigures],
    *,
    seed: int = 0,
    notices: Sequence[str] = (),
    whole: Mapping[str, WholeFigure] = MappingProxyType({}),
) -> Evaluation:
    """Return means and intervals over clips, and what is to be said of them.

    Args:
        clips: at least one, all with a reference or all without.
        seed: of the bootstrap.
        notices: what is known already.
        whole: figures of all clips together.
    """
    known = WITHOUT_REFERENCE if clips[0].registration is None else WITH_REFERENCE
    figures = {k: figure for k, figure in known.items() if any(k in c.series for c in clips)}
    shared = [key for key in figures if all(key in clip.series for clip in clips)]
    alone = len(clips) == 1
    samples = {k: clips[0].series[k] if alone else [c.means[k] for c in clips] for k in shared}
    intervals = {k: confidence_interval(values, seed) for k, values in samples.items()}
    registered = [(clip.name, clip.registration) for clip in clips if clip.registration]
    found = [_shift_notice(name, lies) for name, lies in registered if lies.is_shifted]
    found += notices
    if alone and any(intervals.values()):
        found.append("intervals are over the frames of one clip, which resemble each other")
    return Evaluation(
        clips=tuple(clips),
        figures=figures,
        means={key: float(np.mean(values)) for key, values in samples.items()},
        intervals={key: interval for key, interval in intervals.items() if interval},
        over="frames" if alone else "clips",
        notices=tuple(found),
        whole=dict(whole),
    )


def cells(evaluation: Evaluation) -> list[list[str]]:
    """Return the table as text: a row of titles, one per clip, the mean, and its interval."""
    figures = evaluation.figures
    rows = [["clip", *(figure.title for figure in figures.values())]]
    for clip in evaluation.clips:
        means = clip.means
        row = [f"{means[k]:.{f.decimals}f}" if k in means else NO_VALUE for k, f in figures.items()]
        if clip.registration and clip.registration.is_shifted:
            row[0] += " (!)"
        rows.append([clip.name, *row])
    if len(evaluation.clips) > 1:
        rows.append(["mean", *(_text(evaluation.means.get(k), f) for k, f in figures.items())])
    bounds = [evaluation.intervals.get(key, (None, None)) for key in figures]
    texts = [[_text(b, f) for b in pair] for pair, f in zip(bounds, figures.values(), strict=True)]
    spans = [NO_VALUE if NO_VALUE in pair else f"{pair[0]} to {pair[1]}" for pair in texts]
    return [*rows, [f"95% over {evaluation.over}", *spans]]


def to_markdown(evaluation: Evaluation) -> str:
    """Return the table in Markdown, which figures are better when higher, and the notices."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in cells(evaluation)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [
        [rows_cell.ljust(w) if not i else rows_cell.rjust(w) for i, (rows_cell, w) in enumerate(z)]
        for z in (zip(row, widths, strict=True) for row in rows)
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:])]
    told = [f"\n{line}" for line in whole_lines(evaluation)]
    notes = [f"\nNote: {n}." for n in evaluation.notices]
    return "\n".join([*lines, "", legend(evaluation), *told, *notes])


def to_latex(evaluation: Evaluation) -> str:
    """Return the table in LaTeX, for the package booktabs."""
    titles, *rows = [[_escaped(cell) for cell in row] for row in cells(evaluation)]
    num_clips = len(evaluation.clips)
    body = [" & ".join(row) + r" \\" for row in rows]
    columns = 1 + len(evaluation.figures)
    whole = [
        rf"\multicolumn{{{columns}}}{{l}}{{{_escaped(line)}}} \\"
        for line in whole_lines(evaluation)
    ]
    notes = [f"% {' '.join(sentence.split())}" for sentence in evaluation.notices]
    return "\n".join(
        [
            *notes,
            rf"\begin{{tabular}}{{l{'r' * len(evaluation.figures)}}}",
            r"\toprule",
            " & ".join(titles) + r" \\",
            r"\midrule",
            *body[:num_clips],
            r"\midrule",
            *body[num_clips:],
            *([r"\midrule", *whole] if whole else []),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def to_json(evaluation: Evaluation) -> str:
    """Return everything that was measured, frame by frame."""
    data: dict[str, Any] = {
        "legato": __version__,
        "figures": {key: asdict(figure) for key, figure in evaluation.figures.items()},
        "clips": {
            clip.name: asdict(clip)
            | {
                "means": clip.means,
                "spectrum": {
                    "cycles_per_frame": frequencies(len(clip.spectrum), clip.num_frames).tolist(),
                    "amplitude": clip.spectrum,
                },
            }
            for clip in evaluation.clips
        },
        "means": evaluation.means,
        "intervals_95": evaluation.intervals,
        "intervals_over": evaluation.over,
        "whole_set": {key: asdict(figure) for key, figure in evaluation.whole.items()},
        "notices": evaluation.notices,
    }
    return json.dumps(data, indent=1)


def legend(evaluation: Evaluation) -> str:
    """Return which figures are better when higher, in a sentence."""
    better = {
        way: [f.title for f in evaluation.figures.values() if f.better == way]
        for way in ("higher", "lower")
    }
    return "; ".join(f"{way} is better: {', '.join(n)}" for way, n in better.items() if n) + "."


def whole_lines(evaluation: Evaluation) -> list[str]:
    """Return a line for each figure of all clips together."""
    return [
        f"Whole set: {f.title} {f.value:.2f} ({f.samples}; {f.better} is better)"
        for f in evaluation.whole.values()
    ]


def _shift_notice(name: str, lies: Registration) -> str:
    return (
        f"{name} (!) lies {lies.x:+.2f} px right of and {lies.y:+.2f} px below its reference: "
        "figures with a reference punish the shift; align the two first"
    )


def _text(value: float | None, figure: Figure) -> str:
    return NO_VALUE if value is None else f"{value:.{figure.decimals}f}"


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(special.get(sign, sign) for sign in text)
