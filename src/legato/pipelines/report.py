"""What a finished job says about itself."""

import json
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av

import legato
from legato.errors import LegatoError
from legato.pipelines.workfolder import WorkFolder, write_json


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A report as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self)

    def close(self, folder: WorkFolder, chosen: Path | None) -> None:
        """End a job: write the report as JSON beside its output, or where it was chosen.

        Elsewhere, what an earlier job left beside the output goes: it tells of another file. The
        work folder goes even where the report cannot be written: the output is in its place.

        Raises:
            ResourceError: the disk is full.
            InputError: the report's path may not be written.
        """
        usual = report_path(folder.target)
        try:
            write_json(chosen or usual, self.to_json())
        except LegatoError:
            folder.remove()
            raise
        folder.remove()
        if chosen is not None and chosen.resolve() != usual.resolve():
            with suppress(OSError):  # such as a name too long to be there
                usual.unlink()


@dataclass(frozen=True, kw_only=True)
class Report(Saved):
    """Everything a user may want to check or repeat. Times in seconds, sizes as width, height."""

    source: str
    target: str
    frames_in: int
    frames_out: int
    frames_repeated: int
    """Frames that could not be decoded and repeat the one before."""
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    duration: float
    """From the first frame of the range to the last one."""
    range: dict[str, str] | None
    """`start` and `end` on the source's own clock, as fractions; None: the whole source."""
    shots: int
    segments: int
    segments_resumed: int
    """Segments that an earlier, interrupted run had finished."""
    streams: dict[str, list[str]]
    """What was `kept`, `transcoded` and `dropped`."""
    notices: list[str]
    fallbacks: list[str]
    differences: list[str]
    """What the conservation check found; empty: everything of the input is in the output."""
    seconds: float
    """Of this run."""
    frames_per_second: float
    """Frames restored by this run, over the time that restoring took."""
    options: dict[str, Any]
    model: dict[str, str]
    device: str
    dtype: str
    tile: int | None
    window: int | None
    versions: dict[str, str] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    """One per shot of the range, where captions were asked for."""
    source_content: dict[str, Any] = field(default_factory=dict)
    """What tells the source from another file of its name; see `content_of`."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Report":
        """Return the report that `to_json` described."""
        sizes = {name: tuple(data[name]) for name in ("size_in", "size_out")}
        return cls(**{**data, **sizes})


@dataclass(frozen=True, kw_only=True)
class GenerationReport(Saved):
    """The same of a generated video."""

    prompt: str
    target: str
    frames: int
    key_frames: int
    size: tuple[int, int]
    """Of the file, width and height."""
    frame_rate: str
    """Frames per second, as a fraction."""
    duration: float
    parts_resumed: int
    """Parts that an earlier, interrupted run had finished."""
    seconds: float
    """Of this run."""
    seconds_of_stages: dict[str, float]
    """What each stage took in this run."""
    notices: list[str]
    options: dict[str, Any]
    """As given."""
    settings: dict[str, Any]
    """After the model's defaults."""
    model: dict[str, str]
    device: str
    dtype: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class TranslationReport(Saved):
    """The same of a translated video. Times in seconds, sizes as width, height."""

    source: str
    target: str
    frames_in: int
    frames_out: int
    frames_repeated: int
    """Frames that could not be decoded and repeat the one before."""
    key_frames: int
    batches: int
    size: tuple[int, int]
    """Of input and output."""
    size_computed: tuple[int, int]
    """Of the pictures that the model works on."""
    duration: float
    """From the first frame of the range to the last one."""
    range: dict[str, str] | None
    """`start` and `end` on the source's own clock, as fractions; None: the whole source."""
    shots: int
    parts_resumed: int
    """Batches and segments that an earlier, interrupted run had finished."""
    streams: dict[str, list[str]]
    """What was `kept`, `transcoded` and `dropped`."""
    notices: list[str]
    differences: list[str]
    """What the conservation check found; empty: everything of the input is in the output."""
    seconds: float
    """Of this run."""
    seconds_of_stages: dict[str, float]
    """What each stage took in this run."""
    options: dict[str, Any]
    model: dict[str, str]
    device: str
    dtype: str
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        "legato": legato.__version__,
        "python": platform.python_version(),
        "torch": version("torch"),  # which is slow to import
        "av": av.__version__,
    }


def report_path(target: Path) -> Path:
    """Return where a job leaves its report unless told otherwise: beside its output."""
    return target.with_name(f"{target.name}.legato.json")


def read_report(path: Path) -> dict[str, Any] | None:
    """Return what a report holds; None where there is none."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except ValueError:
        return None
    return found if isinstance(found, dict) and "target" in found else None


def read_range(path: Path) -> dict[str, Any] | None:
    """Return the range that a report names; None where there is no report or no range."""
    chosen = (read_report(path) or {}).get("range")
    return chosen if isinstance(chosen, dict) else None
