"""What a translation computes and saves: key frames of each shot, batches of them, segments.

Pure planning. Frames are counted from the first one of the chosen range.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from legato.errors import InputError
from legato.pipelines.keyframes import Batch, KeyframeOptions, plan_batches, select_keyframes
from legato.pipelines.segments import Segment
from legato.pipelines.survey import Survey
from legato.pipelines.workfolder import write_json

Prompts = Sequence[tuple[Fraction, str]]
"""Each with the seconds after the first frame from which it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedBatch:
    """Key frames that are computed together, and what their new ones shall look like."""

    batch: Batch
    prompt: str

    @property
    def starts_shot(self) -> bool:
        """Whether no batch of the same shot comes before."""
        return self.batch.num_anchors == 0


@dataclass(frozen=True, kw_only=True)
class TranslationPlan:
    """What a resumed run takes over, and must agree with."""

    fingerprint: dict[str, Any]
    """Source, options, models and versions, as flat names and values."""
    survey: Survey
    keys: tuple[tuple[int, ...], ...]
    """Key frames of each shot, ascending; the first of them begins the shot."""
    all_keys: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Those of all shots."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "all_keys", tuple(key for keys in self.keys for key in keys))

    def batches(self, size: int, prompts: Prompts, *, time_base: Fraction) -> list[PromptedBatch]:
        """Return what is computed together; see `batches_of_shot`.

        Args:
            size: key frames per batch.
            prompts: rising; the first from 0 on.
            time_base: seconds per tick of the survey's times.
        """
        pts = self.survey.pts

        def prompt_of(frame: int) -> str:
            seconds = (pts[frame] - pts[0]) * time_base
            return [text for since, text in prompts if since <= seconds][-1]

        return [
            each
            for keys in self.keys
            for each in batches_of_shot(keys, [prompt_of(key) for key in keys], size)
        ]

    def segments(self, size: int) -> list[Segment]:
        """Return the parts that are written: whole intervals, `size` frames or more of a shot."""
        found: list[Segment] = []
        ends = [*self.survey.shots[1:], self.survey.num_frames]
        for keys, shot_stop in zip(self.keys, ends, strict=True):
            starts = [keys[0]]
            for key in keys:
                if key - starts[-1] >= size:
                    starts.append(key)
            for first, stop in pairwise([*starts, shot_stop]):
                found.append(
                    Segment(
                        index=len(found),
                        first=first,
                        stop=stop,
                        shot_first=keys[0],
                        shot_stop=shot_stop,
                    )
                )
        return found

    def save(self, path: Path) -> None:
        """Write the plan, whole or not at all."""
        data = {
            "translate": self.fingerprint,
            "survey": self.survey.to_json(),
            "keys": self.keys,
        }
        write_json(path, data)

    @classmethod
    def load(cls, path: Path) -> "TranslationPlan | None":
        """Return the plan at `path`; None where there is none.

        Raises:
            InputError: it is damaged, or that of another kind of job.
        """
        if not path.exists():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
            return cls(
                fingerprint=data["translate"],
                survey=Survey.from_json(data["survey"]),
                keys=tuple(map(tuple, data["keys"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: not the plan of a translated video",
                why="an unfinished job of another kind, or a damaged file, lies here",
                fix="use --restart to begin anew",
            ) from error


def choose_keys(
    changes: Float[ndarray, "T"], shots: Sequence[int], options: KeyframeOptions
) -> tuple[tuple[int, ...], ...]:
    """Return the key frames of each shot.

    Args:
        changes: from `measure_changes`, of all frames of the range.
        shots: first frame of each shot, rising from 0.
        options: how far key frames are apart.
    """
    found = []
    for first, stop in pairwise([*shots, len(changes)]):
        within = np.array(changes[first:stop])
        found.append(tuple(first + key for key in select_keyframes(within, options)))
    return tuple(found)


def batches_of_shot(keys: Sequence[int], prompts: Sequence[str], size: int) -> list[PromptedBatch]:
    """Share the key frames of a shot out to batches of one prompt each.

    Where the prompt changes a batch ends, and the next one holds on to the shot's first key frame
    and to the last one before, as any later batch does.

    Args:
        keys: ascending.
        prompts: of each key frame.
        size: key frames per batch.
    """
    found: list[PromptedBatch] = []
    done = 0
    for prompt, group in groupby(prompts):
        stop = done + len(list(group))
        anchors = () if done == 0 else (keys[0], keys[done - 1])
        batches = plan_batches([*anchors, *keys[done:stop]], size)
        batches[0] = replace(batches[0], num_anchors=len(anchors))
        found += [PromptedBatch(batch=batch, prompt=prompt) for batch in batches]
        done = stop
    return found
