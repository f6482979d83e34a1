"""The plan that a job writes before its first segment, and that a resumed run must agree with."""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import legato
from legato.errors import InputError
from legato.pipelines.segments import Segment
from legato.pipelines.survey import Survey
from legato.pipelines.workfolder import write_json

FORMAT = 3
HEAD_BYTES = 1 << 20
SHOWN_DIFFERENCES = 5
FACTS = ("source", "size", "changed", "head", "name", "licence", "sha256")
"""Ends of names in a fingerprint that tell of files which an option names."""
Tell = Callable[[str, object, object], str]
"""Says that what has a name was one value and is now another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What a fallback may change: never what the result should be, only how it is computed."""

    tile: int | None
    """Side of tiles in input pixels; 0: whole frames; None: the model's own."""

    window: int | None
    """Frames denoised together; None: the model's own."""

    segment: int
    """Frames that are computed and saved together; fixed for the whole job."""

    dtype: str
    """Precision of the networks."""

    batches_guidance: bool = False
    """Whether the U-Net sees prompt and negative prompt in one call."""

    offload: bool = False
    """Whether only the part of the model that is at work is in memory."""

    def sentence(self) -> str:
        """Say it to the user."""
        tile = f", tiles of {self.tile}" if self.tile else ""
        window = f", windows of {self.window}" if self.window else ""
        guidance = ", guidance in one batch" if self.batches_guidance else ""
        parts = ", one part of the model in memory at a time" if self.offload else ""
        return f"{self.dtype}{tile}{window}, segments of {self.segment} frames{guidance}{parts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """One step back that was taken, and from which segment on."""

    segment: int
    why: str
    execution: Execution

    def sentence(self) -> str:
        """Say it to the user."""
        return f"from segment {self.segment} on {self.execution.sentence()}: {self.why}"


@dataclass(kw_only=True)
class SavedPlan:
    """Everything that a resumed run takes over. Changed only by fallbacks, and then saved."""

    fingerprint: dict[str, Any]
    """Source, options, model and versions, as flat names and values."""
    survey: Survey
    execution: Execution
    """In force for the next segment."""
    fallbacks: list[Fallback] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    """One per shot, from captions; empty: the options' prompt holds for all."""
    approximation: str = ""
    """How far the first frames of an approximate decoder are from exact ones, once measured."""

    def prompt_of(self, segment: Segment) -> str | None:
        """Return the prompt of a segment's shot; None: that of the options."""
        if not self.prompts:
            return None
        return self.prompts[self.survey.shots.index(segment.shot_first)]

    def save(self, path: Path) -> None:
        """Write the plan, whole or not at all."""
        data = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "survey": self.survey.to_json(),
            "execution": asdict(self.execution),
            "fallbacks": [asdict(fallback) for fallback in self.fallbacks],
            "prompts": self.prompts,
            "approximation": self.approximation,
        }
        write_json(path, data)

    @classmethod
    def load(cls, path: Path) -> "SavedPlan | None":
        """Return the plan at `path`; None where there is none.

        Raises:
            InputError: it is damaged or was written by another version.
        """
        if not path.exists():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']}")
            return cls(
                fingerprint=data["fingerprint"],
                survey=Survey.from_json(data["survey"]),
                execution=Execution(**data["execution"]),
                fallbacks=[
                    Fallback(**{**entry, "execution": Execution(**entry["execution"])})
                    for entry in data["fallbacks"]
                ],
                prompts=data["prompts"],
                approximation=data.get("approximation", ""),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: not a plan of this version ({error})",
                why="an unfinished job of another version, or a damaged file, lies here",
                fix="use --restart to begin anew",
            ) from error


def as_flag(name: str, before: object, now: object, *, words: Sequence[str] = ()) -> str:
    """Say a difference in the words of the command line.

    Args:
        name: in a fingerprint: an option; `legato`, `source` or `codec used`; or `WHAT FACT`, a
            fact of the files that an option names, or `source`.
        before: its value then; None: not given.
        now: its value now.
        words: options that are no flags.
    """
    what, _, fact = name.rpartition(" ")
    if fact == "legato":
        name = fact
    elif fact in FACTS and what:
        of = (
            "the input" if what == "source" else f"what {_flag(what.removesuffix(' source'))} names"
        )
        return f"{of} has changed"
    said = {"source": "the input", "legato": "legato's version", "codec used": "the codec"}.get(
        name, name if name in words else _flag(name)
    )
    return f"{said} {_value(now)}, was {_value(before)}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-").replace(" ", "-")


def _value(value: object) -> str:
    """Return a value as it is typed."""
    if isinstance(value, list):
        return " ".join(map(_value, value)) or "not given"
    if value is None or value is False or value == "":
        return "not given"
    if value is True:
        return "given"
    return shlex.quote(str(value).removeprefix("torch."))


def require_same(
    saved: dict[str, Any],
    fingerprint: dict[str, Any],
    folder: Path,
    *,
    holds: str = "an unfinished job",
    fix: str = "repeat its command to continue it, or use --restart to begin anew",
    tell: Tell = as_flag,
) -> None:
    """Refuse to continue what had another fingerprint.

    Args:
        saved: the fingerprint that was written.
        fingerprint: the one that is wanted.
        folder: where the first was found.
        holds: what is there.
        fix: what to do.
        tell: says one difference.

    Raises:
        InputError: they differ; says where.
    """
    wanted = json.loads(json.dumps(fingerprint))
    differences = dict.fromkeys(
        tell(name, saved.get(name), wanted.get(name))
        for name in sorted(wanted | saved)
        if saved.get(name) != wanted.get(name)
    )
    if differences:
        raise InputError(
            f"{folder} holds {holds} that differs",
            why="; ".join(list(differences)[:SHOWN_DIFFERENCES]),
            fix=fix,
        )


def source_fingerprint(path: Path, images: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return what tells a source from another: sizes, times of change, and a hash of heads.

    Args:
        path: a file, or the folder of `images`.
        images: the files of a folder.
    """
    digest = hashlib.sha256()
    size, changed = 0, 0
    for file in images or (path,):
        facts = file.stat()
        size += facts.st_size
        changed = max(changed, facts.st_mtime_ns)
        if images:  # a newer one must not hide that another was exchanged
            digest.update(
                os.fsencode(file.name) + f"\0{facts.st_size} {facts.st_mtime_ns}".encode()
            )
        with file.open("rb") as stream:
            digest.update(stream.read(HEAD_BYTES if not images else 4096))
    return {
        "source": os.fsencode(path.resolve()).decode("utf-8", "surrogateescape"),  # in any locale
        "source size": size,
        "source changed": changed,
        "source head": digest.hexdigest()[:32],
        "legato": legato.__version__,
    }


def content_of(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a source's fingerprint is the same wherever and whenever it was copied."""
    return {name: fingerprint[f"source {name}"] for name in ("size", "head")}


def folder_fingerprint(what: str, name: str | Path) -> dict[str, Any]:
    """Return what tells the files of a model folder from others that take its place.

    Nothing for what is no folder: a model at the hub is known by its name.

    Args:
        what: the model is for; begins every name.
        name: of the folder.
    """
    root = Path(name).expanduser()
    files = sorted(path for depth in ("*", "*/*") for path in root.glob(depth) if path.is_file())
    if not files:
        return {}
    found = source_fingerprint(root, tuple(files))
    names = {f"source {name}": f"{what} {name}" for name in ("size", "changed", "head")}
    return {names[key]: value for key, value in found.items() if key in names}
