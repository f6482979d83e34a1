"""Model folders: diffusers' layout plus `legato.json`, read strictly and written with hashes.

unet/ vae/ scheduler/ low_res_scheduler/ hold what diffusers puts there; temporal/ and
temporal_decoder/ hold the temporal layers; words/ or text_encoder/ and tokenizer/ embed prompts.
A generating model may add interpolation/ (temporal layers, and under interpolation/unet/ a U-Net of
its own), upsampler/ (a whole upscaling model) and image_encoder/ (what embeds a picture). Only
safetensors is read.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from legato.errors import InputError, ModelError, refused_by_system
from legato.models.manifest import MANIFEST, REFILL, Manifest
from legato.tensor_file import save_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS = "model.safetensors"
PICTURE_ENCODER = "image_encoder"
"""The part that embeds the picture of which a video is made."""
TOPOLOGY = "unet.json"
"""Beside temporal layers that are saved alone: configuration of a U-Net that they fit."""
WEIGHT_NAMES = (
    WEIGHTS,
    "diffusion_pytorch_model.fp16.safetensors",
    TEXT_WEIGHTS,
    "model.fp16.safetensors",
)
MARKS = ("*.json", "*/*.json", "*.safetensors", "*/*.safetensors")
"""Files of which every model folder has one."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class ModelFolder:
    """A folder opened for reading, with every listed file checked against its hash.

    Args:
        root: the folder.
        headers_only: read names, shapes and precisions of weights, but no numbers, and leave the
            hashes to `damages`.

    Raises:
        ModelError: there is no such folder, it is none of a model, or a file is missing or differs
            from its hash.
    """

    def __init__(self, root: Path, *, headers_only: bool = False) -> None:
        if not root.is_dir():
            raise ModelError(f"model folder {root}", why="it does not exist", fix="name another")
        if not any(any(root.glob(mark)) for mark in MARKS):
            raise ModelError(
                f"model folder {root}",
                why="nothing in it is a part of a model",
                fix=f"name the folder in which {MANIFEST} or unet/ lies",
            )
        self.root = root
        self.manifest: Manifest | None = None
        self._read = read_headers if headers_only else read_weights
        if (root / MANIFEST).is_file():
            self.manifest = Manifest.from_values(read_json(root / MANIFEST))
        if not headers_only:
            for damage in self.damages():
                raise damage

    def damages(self) -> Iterator[ModelError]:
        """Yield an error for every file that `legato.json` lists and that is not as listed."""
        for name, digest in (self.manifest.sha256 if self.manifest else {}).items():
            path = self.root / name
            if not path.resolve().is_relative_to(self.root.resolve()) or not path.is_file():
                yield ModelError(f"{path} is missing", why=f"{MANIFEST} lists it", fix=REFILL)
            elif hash_file(path) != digest:
                yield ModelError(
                    f"{path} is damaged", why=f"its sha256 differs from {MANIFEST}", fix=REFILL
                )

    def has(self, part: str) -> bool:
        """Return whether the folder has a part of that name."""
        return (self.root / part).is_dir()

    def path(self, part: str) -> Path:
        """Return where the files of a part are, or would be."""
        return self.root / part

    def config(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """Return the parsed configuration of a part.

        Raises:
            ModelError: it is missing, not listed in `legato.json`, or not JSON.
        """
        return read_json(self._listed(self.path(part) / name))

    def weights(self, part: str) -> dict[str, Tensor]:
        """Return the tensors of a part.

        Raises:
            ModelError: there is no safetensors file, or it is damaged.
        """
        folder = self.path(part)
        for name in WEIGHT_NAMES:
            index = folder / f"{name}.index.json"
            if index.is_file():
                shards = _shards_in(self._listed(index))
                parts = [self._read(self._listed(folder / Path(shard).name)) for shard in shards]
                return {key: value for part in parts for key, value in part.items()}
            if (folder / name).is_file():
                return self._read(self._listed(folder / name))
        pickles = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
        if pickles:
            raise ModelError(
                f"{folder / pickles[0]}",
                why="a pickle can run any program, so only safetensors is read",
                fix="convert the model first: legato models convert",
            )
        raise ModelError(f"{folder / WEIGHTS} is missing", why="it holds the weights", fix=REFILL)

    def _listed(self, path: Path) -> Path:
        if self.manifest is None:
            return path
        if path.relative_to(self.root).as_posix() not in self.manifest.sha256:
            raise ModelError(f"{path} is missing", why=f"{MANIFEST} does not list it", fix=REFILL)
        return path


def _shards_in(index: Path) -> list[str]:
    """Return the names of the files that an index tells the tensors of."""
    places = read_json(index).get("weight_map", {})
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        why = "its weight_map does not say which file holds which tensor"
        raise ModelError(f"{index} is damaged", why=why, fix=REFILL)
    return sorted(set(places.values()))


def known_fingerprint(root: Path) -> str:
    """Return the fingerprint in a folder's `legato.json`; "" where there is none.

    Raises:
        ModelError: it is damaged.
    """
    path = root / MANIFEST
    return Manifest.from_values(read_json(path)).fingerprint if path.is_file() else ""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelError: it is missing or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} is missing", why="it describes a part of the model", fix=REFILL
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged", why=f"{error}", fix=REFILL) from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is damaged", why="it holds no JSON object", fix=REFILL)
    return values


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ModelError: it is truncated, damaged, or of another format.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path, error) from error


def read_headers(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file without their numbers, on the meta device.

    Raises:
        ModelError: it is truncated, damaged, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: _header(file, key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path, error) from error


def _header(file: Any, key: str) -> Tensor:  # noqa: ANN401 - safetensors names no type
    rows = file.get_slice(key)
    shape = rows.get_shape()
    dtype = rows[:0].dtype if shape else file.get_tensor(key).dtype
    return torch.empty(shape, dtype=dtype, device="meta")


def _broken(path: Path, error: Exception) -> ModelError:
    why = f"it is not a whole safetensors file ({error})"
    return ModelError(f"{path} is damaged", why=why, fix=REFILL)


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FolderWriter:
    """A model folder being written beside its final place; `finish` hashes it and puts it there.

    Leaving the block in any other way removes what was written.

    Raises:
        InputError: the target is a folder of something else, or cannot be made.
        ResourceError: its disk is full.
    """

    def __init__(self, target: Path) -> None:
        target = target.absolute()
        taken = not target.is_dir() or any(target.iterdir()) if target.exists() else False
        if taken and not (target / MANIFEST).is_file():
            raise InputError(
                f"folder {target}", why="it holds something that is no model", fix="name another"
            )
        self.target = target
        self.root = target.with_name(f".{target.name}.part")
        shutil.rmtree(self.root, ignore_errors=True)
        try:
            self.root.mkdir(parents=True)
        except OSError as error:
            raise refused_by_system(error, target) or InputError(
                f"folder {target}",
                why=f"it cannot be made ({error.strerror})",
                fix="name another",
            ) from error

    def __enter__(self) -> "FolderWriter":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root, ignore_errors=True)  # `finish` has moved it away

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file of the folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def write_part(
        self,
        part: str,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        *,
        dtype: torch.dtype | None = None,
        weights: str = WEIGHTS,
    ) -> None:
        """Write a part's configuration and weights; mixing weights stay float32.

        Args:
            part: name of its folder.
            config: its configuration.
            state: its weights.
            dtype: their precision; None: as they are.
            weights: name of their file.
        """
        self.write_json(f"{part}/config.json", config)
        save_tensors(
            {key: _stored(key, value, dtype) for key, value in state.items()},
            self.root / part / weights,
            metadata={"format": "pt"},
        )
        (self.root / part / weights).chmod(0o644)  # safetensors keeps it to its owner

    def copy(self, source: Path, part: str) -> None:
        """Copy the files of a part as they are.

        Raises:
            ModelError: there are none.
        """
        if not source.is_dir():
            raise ModelError(f"{source} is missing", why="it is a part of the model", fix=REFILL)
        shutil.copytree(source, self.root / part)

    def finish(self, manifest: Manifest) -> Manifest:
        """Hash every file, write `legato.json` and rename the folder into place."""
        paths = sorted(path for path in self.root.rglob("*") if path.is_file())
        hashes = {path.relative_to(self.root).as_posix(): hash_file(path) for path in paths}
        complete = replace(manifest, sha256=hashes)
        (self.root / MANIFEST).write_text(complete.to_json(), encoding="utf-8")
        if self.target.exists():
            shutil.rmtree(self.target)
        self.root.rename(self.target)
        return complete


def _stored(key: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    keep = dtype is None or not value.is_floating_point()
    if key.endswith("mix_factor"):
        return value.detach().float().contiguous()
    return (value if keep else value.to(dtype)).detach().cpu().contiguous()
