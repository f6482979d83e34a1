"""How far a run over a folder of clips came, kept beside its outputs until all are there."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from legato.errors import InputError
from legato.pipelines.saved_plan import require_same, source_fingerprint
from legato.pipelines.workfolder import write_json
from legato.video.container import list_images

NAME = ".degrade.json"
FIX = "repeat the command that began it, or name another folder"


class DamageRecord:
    """Within the block, says which clips are finished; gone afterwards, save by an interruption.

    Args:
        folder: of the outputs; need not exist.
        options: by their names; what was begun with others is refused.

    Raises:
        InputError: the folder holds what other options began, or a record that is damaged.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.path, self._options = folder / NAME, dict(options)
        self._clips: dict[str, Any] = {}  # fingerprint of each source; None: it is in work
        if self.path.exists():
            saved = self._load()
            begun = saved["options"]
            require_same(begun, self._options, folder, holds="an unfinished run", fix=FIX)
            self._clips = saved["clips"]

    def __enter__(self) -> "DamageRecord":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is None or not any(self._clips.values()):
            self.path.unlink(missing_ok=True)

    def is_ours(self, name: str) -> bool:
        """Tell whether a clip's output, whole or not, was made by the run that is continued."""
        return name in self._clips

    def is_finished(self, name: str, source: Path) -> bool:
        """Tell whether a clip's output is whole, and its source still the one it was made of."""
        return self._clips.get(name) == _fingerprint(source)

    def begin(self, name: str) -> None:
        """Note that a clip is in work."""
        self._save(self._clips | {name: None})

    def finish(self, name: str, source: Path) -> None:
        """Note that a clip's output is in its place."""
        self._save(self._clips | {name: _fingerprint(source)})

    def _save(self, clips: dict[str, Any]) -> None:
        self._clips = clips
        write_json(self.path, {"options": self._options, "clips": clips})

    def _load(self) -> dict[str, Any]:
        try:
            saved = json.loads(self.path.read_text(encoding="utf-8", errors="surrogateescape"))
            return {name: dict(saved[name]) for name in ("options", "clips")}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path}: not the record of a run ({error})", why="it is damaged", fix=FIX
            ) from error


def _fingerprint(source: Path) -> dict[str, Any]:
    return source_fingerprint(source, tuple(list_images(source)) if source.is_dir() else ())
