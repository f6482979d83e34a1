"""What defines a run of training, kept in its folder: another run does not continue it."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import PartialState

from legato.errors import InputError
from legato.evaluation.captions import caption_file
from legato.models.folder import hash_file
from legato.models.manifest import MANIFEST
from legato.models.spec import find_folder
from legato.pipelines.saved_plan import as_flag, folder_fingerprint, require_same
from legato.pipelines.workfolder import write_json
from legato.training.trainer import CHECKPOINT, Log
from legato.video.atomic import making_folder, writing

RECORD = "run.json"
MAY_CHANGE = {
    "out",
    "held_back",
    "stages",
    "steps",
    "max_minutes",
    "num_workers",
    "validate_every",
    "gradient_checkpointing",
    "clips_at_once",
    "pictures_at_once",
}
"""Options that say how far a run goes, how it is computed and on what it is validated, not what it
learns from what."""
MODELS = ("model", "warm_start")
SAMPLE_BYTES = 4096
FIX = "name another --out, or remove the folder"


@runtime_checkable
class RecipeOptions(Protocol):
    """The options of any recipe: a dataclass with a folder."""

    @property
    def out(self) -> Path:
        """Folder of the run."""


@contextmanager
def beginning(folder: Path) -> Iterator[None]:
    """Where the block, which begins a run, fails before there is any work, leave nothing of it."""
    with making_folder(folder):
        try:
            yield
        except BaseException:
            if not _holds_work(folder):
                (folder / RECORD).unlink(missing_ok=True)
            raise


def begin_run(recipe: str, options: RecipeOptions, log: Log) -> None:
    """Make the folder of a run and record what defines it, or require what is recorded there.

    A record without any work beside it binds nobody.

    Raises:
        InputError: the folder holds another run, or a stage that would be left out; there is
            nothing to go on from; a path is not there; or it cannot be written.
        ModelError: there is no model to start from.
    """
    folder, record = options.out, options.out / RECORD
    _require_named(options)
    _require_there(options)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    wanted = _described(recipe, options)
    if _holds_work(folder):
        if record.exists():
            _require_same(_defaults(options, wanted) | _saved(record), wanted, folder)
            return
        if any(folder.rglob(CHECKPOINT)):
            log(f"{record} is missing: what lies there is taken for a run of these options")
    if PartialState(cpu=not torch.cuda.is_available()).is_main_process:
        write_json(record, wanted)


def _require_named(options: RecipeOptions) -> None:
    """Refuse to pass over a stage: later ones would go on from what was before it.

    Without a model to start from, that is random numbers.
    """
    stages: tuple[str, ...] = getattr(options, "stages", ())
    order: tuple[str, ...] = getattr(type(options), "stages", ())
    for name in order[: order.index(stages[-1])] if stages else ():
        if name not in stages and (options.out / name / CHECKPOINT).exists():
            raise InputError(
                f"stages={' '.join(stages)}",
                why=f"{options.out} holds the stage {name}, which later ones would not go on from",
                fix="name it too (what is finished is not run again), or another --out",
            )
    if stages and stages[0] != order[0] and getattr(options, "warm_start", "") is None:
        raise InputError(
            f"stages={' '.join(stages)}",
            why=f"without {order[0]} before them they would go on from random numbers",
            fix="name the stages before them too, or a model with --warm-start",
        )


def _require_there(options: RecipeOptions) -> None:
    for name, value in vars(options).items():
        for path in value if isinstance(value, tuple) else (value,):
            if name != "out" and isinstance(path, Path) and not path.exists():
                raise InputError(f"{path}", why="no such file or folder", fix="check the spelling")


def _require_same(saved: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    saved = {name: value for name, value in saved.items() if name not in MAY_CHANGE}
    if saved.get("recipe") != wanted["recipe"]:  # their options have little in common
        saved, wanted = ({"recipe": run.get("recipe")} for run in (saved, wanted))
    tell = partial(as_flag, words=["recipe"])
    require_same(saved, wanted, folder, holds="a run", fix=FIX, tell=tell)


def _defaults(options: RecipeOptions, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what a record stands for that was written before there were these options."""
    found = {name: getattr(type(options), name) for name in wanted if hasattr(type(options), name)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}


def _holds_work(folder: Path) -> bool:
    return any(
        path.is_file() and path.name != RECORD and not path.name.startswith(".")
        for path in folder.rglob("*")
    )


def _saved(record: Path) -> dict[str, Any]:
    try:
        saved = json.loads(record.read_text(encoding="utf-8", errors="surrogateescape"))
        if not isinstance(saved, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise InputError(
            f"{record}: not the record of a run ({error})", why="it is damaged", fix=FIX
        ) from error
    return saved


def _described(recipe: str, options: RecipeOptions) -> dict[str, Any]:
    """Return what changes the result of a run, as names and values."""
    found: dict[str, Any] = {"recipe": recipe}
    for name, value in vars(options).items():
        if name in MAY_CHANGE:
            continue
        if name in MODELS and value is not None:
            found |= _model(name, value)
        elif isinstance(value, Path):
            found[name] = _files(value, options.out)
        elif isinstance(value, tuple):
            found[name] = [_files(v, options.out) if isinstance(v, Path) else v for v in value]
        else:
            found[name] = value
    return found


def _model(what: str, name: str) -> dict[str, Any]:
    folder = find_folder(name)
    found = {what: _as_text(folder.resolve().name)}
    if (folder / MANIFEST).is_file():  # it lists the hashes of all other files
        return found | {f"{what} sha256": hash_file(folder / MANIFEST)}
    return found | folder_fingerprint(what, folder)


def _files(path: Path, out: Path) -> str:
    """Return what tells files from others wherever they lie: names, sizes, beginnings and ends."""
    path = path.resolve()
    files = [path, caption_file(path), *sorted(path.rglob("*"))]
    digest, count, size = hashlib.sha256(), 0, 0
    for file in files:
        if not file.is_file() or file.is_relative_to(out.resolve()):
            continue
        length = file.stat().st_size
        count, size = count + 1, size + length
        digest.update(os.fsencode(os.path.relpath(file, path.parent)) + f"\0{length}\0".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(SAMPLE_BYTES))
            stream.seek(max(length - SAMPLE_BYTES, 0))
            digest.update(stream.read(SAMPLE_BYTES))
    return f"{_as_text(path.name)} ({count} files, {size} bytes, sha256 {digest.hexdigest()[:12]})"


def _as_text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "surrogateescape")  # in any locale
