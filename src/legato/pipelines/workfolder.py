"""The folder beside the output that holds the plan, finished segments and carried state."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from legato.errors import DecodeError, InputError
from legato.pipelines.lock import Lock
from legato.pipelines.segments import Segment
from legato.video.atomic import put_in_place, write_whole, writing
from legato.video.segments import count_frames

MAX_NAME_BYTES = 240  # file systems allow 255; room for our own prefix and suffix
WORK = ("segment_", "latents_", "generated", ".generated")
"""How the names of what is worth keeping begin: each took long to compute."""


class WorkFolder:
    """Where a job keeps what survives it; everything in it is written whole or not at all.

    Args:
        target: the job's output file or folder; the work folder lies beside it.
        suffix: of segment files, such as `.mkv`; empty where segments are folders.
    """

    def __init__(self, target: Path, *, suffix: str = ".mkv") -> None:
        name, raw = target.name, os.fsencode(target.name)
        if len(raw) > MAX_NAME_BYTES - len("..legato"):
            name = hashlib.sha256(raw).hexdigest()[:32]
        self.target = target
        self.path = target.parent / f".{name}.legato"
        self.suffix = suffix

    @property
    def plan(self) -> Path:
        """The plan: range, segments, options and fallbacks."""
        return self.path / "plan.json"

    @property
    def lock(self) -> Path:
        """The lock of the run that works here."""
        return self.path / "lock"

    @property
    def delivered(self) -> Path:
        """What tells the output from another of its name, once it was put in place."""
        return self.path / "delivered.json"

    def segment(self, index: int) -> Path:
        """The finished frames of a segment; it exists only when complete."""
        return self.path / f"segment_{index:06}{self.suffix}"

    def state(self, index: int) -> Path:
        """What a segment hands to the next one; written before the segment's own file."""
        return self.path / f"state_{index:06}.safetensors"

    def latents(self, track: str, index: int) -> Path:
        """A part of a track of latents."""
        return self.path / f"latents_{track}_{index:06}.safetensors"

    def missing(self, segments: Sequence[Segment]) -> list[Segment]:
        """Return the segments that are not finished yet.

        Raises:
            InputError: another one was damaged after it was finished.
        """
        found = [segment for segment in segments if not self.segment(segment.index).exists()]
        for segment in segments:
            if segment not in found:
                self._require_whole(segment)
        return found

    def _require_whole(self, segment: Segment) -> None:
        path = self.segment(segment.index)
        try:
            num_frames = count_frames(path)
        except DecodeError:
            num_frames = 0
        if num_frames != len(segment):
            raise InputError(
                f"{path} holds {num_frames} of {len(segment)} frames",
                why="it was damaged after it was finished",
                fix="start again with --restart",
            )

    def create(self) -> None:
        """Make the folder.

        Raises:
            InputError: the parent does not exist or cannot be written, or a file has the name.
            ResourceError: the disk is full.
        """
        parent = self.path.parent
        if not parent.is_dir():
            raise InputError(
                f"{parent}: no such folder", why="the output goes there", fix="make it first"
            )
        with writing(self.path):
            self.path.mkdir(exist_ok=True)
            probe = self.path / "writable"
            probe.touch()
            probe.unlink()

    def clear(self) -> None:
        """Remove everything but the lock."""
        for entry in self.path.iterdir():
            if entry != self.lock:
                _remove(entry)

    def drop_leftovers(self) -> None:
        """Remove what a killed run left half written: everything that no job reads again."""
        for entry in self.path.iterdir():
            named = entry.name.startswith((*WORK, "state_"))
            if entry not in (self.plan, self.lock, self.delivered) and not named:
                _remove(entry)

    @property
    def has_delivered(self) -> bool:
        """Whether what stands at the target is the output of this job, which still lacks an end."""
        try:
            known = json.loads(self.delivered.read_text(encoding="utf-8"))
            return self.plan.exists() and bool(known == _identity(self.target))
        except (OSError, ValueError):
            return False

    def deliver(self, made: Path) -> None:
        """Put the finished output in place, unless a run did that was killed before its end.

        Args:
            made: the output, in this folder.

        Raises:
            ResourceError: the disk is full.
            InputError: the target may not be written.
        """
        if self.has_delivered:
            _remove(made)
            return
        write_json(self.delivered, _identity(made))
        put_in_place(made, self.target)

    def remove(self) -> None:
        """Remove the folder with all that is in it; the plan first: without it the rest is void."""
        self.plan.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_if_unused(self) -> None:
        """Remove the folder where no part was ever finished: nothing in it is worth keeping."""
        if self.path.is_dir() and not any(e.name.startswith(WORK) for e in self.path.iterdir()):
            self.remove()


@contextmanager
def working(folder: WorkFolder, *, restart: bool) -> Iterator[None]:
    """Within the block the folder exists and is ours alone; one of no use is removed afterwards.

    Parts without a plan, as of a run that was killed while it removed them, are removed before.

    Args:
        folder: of the job.
        restart: forget what an interrupted run has finished.

    Raises:
        InputError: it cannot be made.
        ResourceError: another run works there.
    """
    folder.create()
    with Lock(folder.lock) as lock:
        try:
            if restart or not folder.plan.exists():  # without it nobody knows what parts are of
                folder.clear()
            folder.drop_leftovers()
            yield
        finally:
            if lock.is_held:
                folder.remove_if_unused()


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON whole or not at all.

    Names that are no text in the locale's encoding are written as the bytes that they are.

    Raises:
        ResourceError: the disk is full.
        InputError: the path may not be written.
    """
    text = json.dumps(data, ensure_ascii=False, indent=1)
    write_whole(path, text.encode("utf-8", errors="surrogateescape"))


def _identity(output: Path) -> dict[str, Any]:
    """Return what stays when an output is renamed, and changes with what a folder holds."""
    facts = output.stat()
    return {"inode": facts.st_ino, "mtime_ns": facts.st_mtime_ns}


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
