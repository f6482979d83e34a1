"""Model folders: diffusers' layout plus `legato.json`, read strictly and written with hashes.

unet/ vae/ scheduler/ low_res_scheduler/ hold what diffusers puts there; temporal/ and
temporal_decoder/ hold the temporal layers; words/ or text_encoder/ and tokenizer/ embed prompts.
A generating model may add interpolation/ (temporal layers, and under interpolation/unet/ a U-Net of
its own) and upsampler/ (a whole upscaling model). Only safetensors is read.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from legato.errors import InputError, ModelError

MANIFEST = "legato.json"
FORMAT_VERSION = 1
WEIGHTS = "diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS = "model.safetensors"
TOPOLOGY = "unet.json"
"""Beside temporal layers that are saved alone: configuration of a U-Net that they fit."""
WEIGHT_NAMES = (
    WEIGHTS,
    "diffusion_pytorch_model.fp16.safetensors",
    TEXT_WEIGHTS,
    "model.fp16.safetensors",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
REFILL = "fetch the model again, or point to an undamaged copy"


@dataclass(frozen=True, kw_only=True)
class UpscalerDefaults:
    """Settings that an upscaling model was made for."""

    steps: int = 30
    """Denoising steps."""
    noise_level: int = 20
    """Noise on the low-resolution clip."""
    max_noise_level: int = 350
    """The strongest noise it has learned."""
    guidance_scale: float = 1.0
    """1: without guidance."""
    window: int = 8
    """Frames denoised together."""
    overlap: int = 2
    """Frames shared by neighbouring windows."""
    tile: int = 0
    """Side of the largest tile in low-resolution pixels; attention costs grow with its square, and
    a model has seen no larger picture. 0: whole frames."""
    decoder_context: int = 0
    """Frames on either side that reach a decoded frame."""
    consistency: str = "temporal,propagation"
    """What holds the frames together: a comma list, or none."""
    propagate: str = "middle"
    """At which steps estimates are carried along the optical flow."""


@dataclass(frozen=True, kw_only=True)
class GeneratorDefaults:
    """Settings that a generating model was made for."""

    steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 1.0
    """How strongly the prompt is followed; 1: without guidance."""
    context_guidance: float = 1.0
    """How strongly given frames are followed; 1: without guidance."""
    window: int = 8
    """Key frames denoised together."""
    key_frame_rate: float = 1.875
    """Key frames per second."""
    width: int = 512
    """Columns of a frame."""
    height: int = 320
    """Rows of a frame."""
    noise_prior: str = "independent"
    """How the noise of neighbouring frames hangs together: independent, mixed or progressive."""
    noise_strength: float = 1.0
    """How much, for the last two."""
    decoder_window: int = 8
    """Frames decoded together."""
    decoder_context: int = 2
    """Frames on either side that are decoded with them and dropped."""


Defaults = UpscalerDefaults | GeneratorDefaults
DEFAULTS_OF: dict[str, type[Defaults]] = {"generate": GeneratorDefaults}
"""By job; those of others are an upscaler's."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `legato.json` says about a model folder."""

    name: str
    family: str
    """Of its temporal layers; `image`: it has none."""
    licence: str
    job: str = "upscale"
    scale: int = 4
    """Output pixels per latent cell, each way."""
    prediction_type: str = "v_prediction"
    defaults: Defaults = field(default_factory=UpscalerDefaults)
    sha256: dict[str, str] = field(default_factory=dict)
    """Of every file, by its path in the folder."""

    @property
    def upscaling(self) -> UpscalerDefaults:
        """The defaults of an upscaling model."""
        assert isinstance(self.defaults, UpscalerDefaults)
        return self.defaults

    @property
    def generating(self) -> GeneratorDefaults:
        """The defaults of a generating model."""
        assert isinstance(self.defaults, GeneratorDefaults)
        return self.defaults

    @property
    def fingerprint(self) -> str:
        """A hash of all files' hashes: tells this model from any other."""
        listing = "\n".join(f"{digest} {path}" for path, digest in sorted(self.sha256.items()))
        return hashlib.sha256(listing.encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of `legato.json`."""
        values = asdict(self)
        values["window"] = values["defaults"].pop("window")
        return json.dumps({"format_version": FORMAT_VERSION} | values, indent=2) + "\n"

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "Manifest":
        """Build from the parsed text.

        Raises:
            ModelError: a field is missing, unknown or of the wrong kind, or the format is newer.
        """
        if values.get("format_version") != FORMAT_VERSION:
            raise ModelError(
                f"{MANIFEST} has format_version={values.get('format_version')!r}",
                why=f"this version of legato reads format {FORMAT_VERSION}",
                fix="use a model and a legato that were made for each other",
            )
        given = {key: value for key, value in values.items() if key != "format_version"}
        try:
            kind = DEFAULTS_OF.get(given.get("job", ""), UpscalerDefaults)
            sample = cls(name="", family="", licence="", defaults=kind())
            defaults = {"window": given.pop("window"), **given.pop("defaults")}
            _same_kinds(given, sample)
            _same_kinds(given["sha256"], dict.fromkeys(given["sha256"], ""))
            _same_kinds(defaults, sample.defaults)
            return cls(**given, defaults=kind(**defaults))
        except (AttributeError, KeyError, TypeError) as error:
            raise ModelError(f"{MANIFEST} is not understood", why=f"{error}", fix=REFILL) from error


def _same_kinds(given: Mapping[str, object], sample: object) -> None:
    """Compare the kinds of values with a sample's; whole numbers pass for any."""
    kinds = sample if isinstance(sample, dict) else vars(sample)
    for name, value in given.items():
        wanted = type(kinds[name])
        if not isinstance(value, wanted) and not (wanted is float and type(value) is int):
            raise ModelError(
                f"{MANIFEST} has {name}={value!r}",
                why=f"it must be of the kind {wanted.__name__}",
                fix=REFILL,
            )


class ModelFolder:
    """A folder opened for reading, with every listed file checked against its hash.

    Args:
        root: the folder.
        headers_only: read names, shapes and precisions of weights, but no numbers, and leave the
            hashes to `damages`.

    Raises:
        ModelError: there is no such folder, or a file is missing or differs from its hash.
    """

    def __init__(self, root: Path, *, headers_only: bool = False) -> None:
        if not root.is_dir():
            raise ModelError(f"model folder {root}", why="it does not exist", fix="name another")
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
                shards = sorted(set(read_json(self._listed(index)).get("weight_map", {}).values()))
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
        InputError: the target is a folder of something else.
    """

    def __init__(self, target: Path) -> None:
        taken = not target.is_dir() or any(target.iterdir()) if target.exists() else False
        if taken and not (target / MANIFEST).is_file():
            raise InputError(
                f"folder {target}", why="it holds something that is no model", fix="name another"
            )
        self.target = target
        self.root = target.with_name(f".{target.name}.part")
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)

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
        save_file(
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
