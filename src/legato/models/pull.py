"""Known models from the Hugging Face hub into the user's model folder.

Files are fetched beside their final place, where an interrupted download goes on; each is compared
with the hash that the table or the hub publishes and with that of its first download; what is whole
is converted, and only then stands where models are looked for.
"""

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from legato.errors import InputError, ModelError, ResourceError
from legato.models.convert.sources import ConvertOptions, convert
from legato.models.folder import ModelFolder, hash_file, read_json
from legato.models.spec import SPECS, ModelSpec, home_of

NETWORK_ERRORS: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, OSError)
"""What a download raises; the bases name the errors of the HTTP client that the hub's uses."""
PARTS = (
    *("unet", "vae", "text_encoder", "tokenizer", "scheduler", "low_res_scheduler"),
    *("image_encoder", "feature_extractor"),
)
LOOSE_FILES = ("model_index.json", "README.md")
UNHASHED = ("README.md",)
"""Files that may be edited without the model being another."""
TEXTS = (".json", ".txt")
"""Endings of configurations and vocabularies."""
OnFile = Callable[[str, int], None]
"""Called with the name and the bytes of each file before it is fetched."""


def pull(name: str, options: ConvertOptions, *, on_file: OnFile | None = None) -> Path:
    """Download and convert a known model, unless it is here and whole; return its folder.

    Args:
        name: of a model in `SPECS`.
        options: how it is converted.
        on_file: told of every file.

    Raises:
        InputError: no such model, or one that is part of the package.
        ModelError: no hub can be reached or has it, a file differs from its hash, or what was
            downloaded cannot be converted.
        ResourceError: the disk is full.
    """
    spec, target = _spec(name), home_of(name)
    if _is_whole(target):
        return target
    record = Record(target.with_name(f"{name}.download.json"))
    downloads = target.with_name(f".{name}.download")
    refusals = []
    for hub in spec.hubs:
        files = downloads / hub.replace("/", "--")
        try:
            half = options.dtype != "float32"
            _fetch(hub, spec, files, record=record, half=half, say=on_file)
        except NETWORK_ERRORS as error:
            _refuse_full_disk(error, files)
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            refusals.append(f"{hub}: {reason[:200]}")
            continue
        convert(files, target, options)
        record.save()
        shutil.rmtree(downloads)
        return target
    raise ModelError(
        f"model {name!r} cannot be downloaded",
        why=", ".join(refusals),
        fix="repeat the command when online, it goes on where it was; or get the files by other "
        f"means and run: legato models convert FOLDER {target}",
    )


class Record:
    """Which commit of which hub was downloaded first, and the hash of each file.

    Args:
        path: its JSON file; it outlives the model's folder.

    Raises:
        ModelError: the file cannot be understood.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        values: dict[str, Any] = read_json(path) if path.is_file() else {}
        try:
            self.commits: dict[str, str] = dict(values.get("commits", {}))
            self.sha256: dict[str, str] = dict(values.get("sha256", {}))
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path} is damaged", why=f"{error}", fix="delete it") from error

    def save(self) -> None:
        """Write the file."""
        values = {"commits": self.commits, "sha256": self.sha256}
        self.path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def wanted(names: Sequence[str], *, half: bool) -> list[str]:
    """Return the files of a hub's listing that a conversion reads.

    Of each part these are its configuration and its weights once: safetensors before pickles, and
    of the same kind those of half precision if `half`, else the others.
    """
    chosen = [name for name in LOOSE_FILES if name in names]
    for part in (".", *PARTS) if "config.json" in names else PARTS:  # of one part: no folders
        files = [name for name in names if PurePosixPath(name).parent == PurePosixPath(part)]
        weights = [name for name in files if _is_weights(name)]
        chosen += [name for name in files if name not in weights and name.endswith(TEXTS)]
        chosen += next(_by_preference(weights, half=half), [])
    return list(dict.fromkeys(chosen))


def _by_preference(weights: list[str], *, half: bool) -> Iterator[list[str]]:
    for suffix in (".safetensors", ".bin"):
        kind = [name for name in weights if suffix in name]
        halves = [name for name in kind if ".fp16." in name]
        others = [name for name in kind if ".fp16." not in name]
        yield from filter(None, (halves, others) if half else (others, halves))


def _is_weights(name: str) -> bool:
    return ".safetensors" in name or ".bin" in name  # their index, too


def _refuse_full_disk(error: Exception, folder: Path) -> None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise ResourceError(
            f"{folder} cannot be written", why="the disk is full", fix="free some space and repeat"
        ) from error


def _is_whole(folder: Path) -> bool:
    try:
        return not any(ModelFolder(folder, headers_only=True).damages())
    except ModelError:
        return False


def _spec(name: str) -> ModelSpec:
    spec = SPECS.get(name)
    if spec is None or not spec.hubs:
        known = [each for each, other in SPECS.items() if other.hubs]
        raise InputError(
            f"model {name!r}",
            why="it is part of legato" if spec else "no model of that name is known",
            fix=f"pull {' or '.join(known)}",
        )
    return spec


def _fetch(
    hub: str, spec: ModelSpec, folder: Path, *, record: Record, half: bool, say: OnFile | None
) -> None:
    """Fetch a model's files from one hub and compare their hashes."""
    api = HfApi()
    revision = record.commits.get(hub, spec.revision)
    info = api.model_info(hub, revision=revision, files_metadata=True)
    listing = {file.rfilename: file for file in info.siblings or []}
    if info.sha is not None:
        record.commits[hub] = info.sha
    for name in wanted(list(listing), half=half):
        file = listing[name]
        if say is not None:
            say(name, file.size or 0)
        path = Path(api.hf_hub_download(hub, name, revision=info.sha, local_dir=folder))
        if name not in UNHASHED:
            said = file.lfs.sha256 if file.lfs else None
            _compare(path, name, (spec.sha256.get(name), said), record)


def _compare(path: Path, name: str, published: tuple[str | None, ...], record: Record) -> None:
    """Compare a file with every hash that is known of it; the first download is recorded."""
    digest = hash_file(path)
    first = record.sha256.setdefault(name, digest)
    sources = ("the published one", "what the hub says", f"its first download in {record.path}")
    for known, source in zip((*published, first), sources, strict=True):
        if known is not None and known != digest:
            path.unlink()
            raise ModelError(
                f"{name} is not the file that it should be",
                why=f"its sha256 is {digest}, and differs from {source}",
                fix=f"pull again; if its authors have replaced it, delete {record.path} first",
            )
