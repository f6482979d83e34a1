"""What a model folder holds and whether it is whole, from its headers: no weights are read.

Every part is built on the meta device from its configuration and compared with the names and shapes
in its files, by the code that loads it; only the hashes need the files' bytes.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import Tensor

from legato.errors import ModelError
from legato.models.folder import PICTURE_ENCODER, ModelFolder
from legato.models.generator_folder import load_interpolation
from legato.models.image_model import SECOND, require_image
from legato.models.inflate import Inflated, VideoModel
from legato.models.load import checked_manifest, lends_layers
from legato.models.manifest import LAYERS, REFILL, ImageDefaults, Manifest
from legato.models.parts import (
    SCHEDULE,
    Autoencoder,
    latent_facts,
    load_autoencoder,
    load_layers_alone,
    load_unet,
    load_words,
)

T = TypeVar("T")

PARTS = (
    *("unet", "temporal", "vae", "temporal_decoder", "words", "text_encoder", SECOND),
    *("interpolation", "interpolation/unet", "layout", PICTURE_ENCODER),
)
"""Folders that hold weights."""
TOKENIZERS = ("vocab.json", "tokenizer.json")
"""Files of which a tokenizer needs one."""


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """One part of a model."""

    parameters: int
    """Numbers in its weights."""
    precision: tuple[str, ...]
    """Their types, the most frequent first."""
    sites: dict[str, int] = field(default_factory=dict)
    """Of temporal layers: how many attach to sites of each kind."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What `inspect_model` found."""

    folder: str
    name: str
    job: str
    family: str
    licence: str
    scale: int | None
    """Output pixels per latent cell, each way; None: not known, since parts do not load, or of no
    use, since there is nothing to decode."""
    prediction_type: str | None
    parts: dict[str, PartFacts]
    sha256: str | None
    """Of all files together; None: there is no `legato.json` with hashes."""
    files: int
    """How many files have a hash."""
    problems: tuple[str, ...]
    """What is missing, damaged or does not fit, one line each; empty: the model is whole."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


class Attempts:
    """Calls that may fail; every failure is kept as one line, once."""

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}

    def note(self, problem: ModelError) -> None:
        """Keep a failure."""
        self.problems[str(problem)] = None

    def call(self, function: Callable[..., T], *args: object) -> T | None:
        """Return a call's result; None: it failed."""
        try:
            return function(*args)
        except ModelError as error:
            self.note(error)
            return None


def inspect_model(root: Path) -> ModelFacts:
    """Return what a model folder holds, and what is missing, damaged or does not fit.

    Args:
        root: a model folder, or one of diffusers without `legato.json`.

    Raises:
        ModelError: there is no such folder, or its `legato.json` cannot be understood.
    """
    folder, attempts = ModelFolder(root, headers_only=True), Attempts()
    for damage in folder.damages():
        attempts.note(damage)
    states = {part: attempts.call(folder.weights, part) for part in PARTS if folder.has(part)}
    alone = folder.has("temporal") and not folder.has("unet")
    manifest, unet = (
        folder.manifest,
        attempts.call(load_layers_alone if alone else load_unet, folder),
    )
    decoder: Autoencoder | None = None
    between: object = None
    lends = bool(attempts.call(lends_layers, folder))
    if lends and manifest is not None:
        manifest = replace(manifest, job=LAYERS)
    is_donor = manifest is not None and manifest.job == "generate" and not _has_ends(folder)
    if not is_donor and (manifest is None or manifest.job in ("upscale", "generate", "image")):
        decoder = attempts.call(load_autoencoder, folder)
        schedule = attempts.call(folder.config, "scheduler", SCHEDULE)
        _attempt_text(folder, attempts)
        if manifest is not None and manifest.job == "generate":
            between = attempts.call(load_interpolation, folder, unet, folder) if unet else None
        elif _is_of_images(manifest, unet):
            if unet and decoder and schedule:
                attempts.call(require_image, root, unet, decoder)
                manifest = manifest or _image_manifest(root, decoder, schedule)
        else:
            attempts.call(folder.config, "low_res_scheduler", SCHEDULE)
            if unet and decoder and schedule:
                checked = attempts.call(checked_manifest, folder, unet, decoder, schedule)
                manifest = manifest or checked
    layers = {"temporal": unet, "temporal_decoder": decoder, "interpolation": between}
    return ModelFacts(
        folder=str(root),
        name=manifest.name if manifest else root.name,
        job=manifest.job if manifest else "unknown",
        family=manifest.family if manifest else "unknown",
        licence=manifest.licence if manifest else "unknown",
        scale=manifest.scale if manifest and not lends else None,
        prediction_type=manifest.prediction_type if manifest else None,
        parts={part: _facts(state, layers.get(part)) for part, state in states.items() if state},
        sha256=folder.manifest.fingerprint if folder.manifest else None,
        files=len(folder.manifest.sha256) if folder.manifest else 0,
        problems=tuple(attempts.problems),
    )


def _is_of_images(manifest: Manifest | None, unet: VideoModel | None) -> bool:
    """Tell whether a folder says so, or else its U-Net is told of no noise in an input."""
    if manifest is not None:
        return manifest.job == "image"
    return unet is not None and cast(Any, unet.spatial.config).num_class_embeds is None


def _image_manifest(root: Path, decoder: Autoencoder, schedule: dict[str, Any]) -> Manifest:
    """Return what stands for the `legato.json` of an image model of diffusers."""
    return Manifest(
        name=root.name,
        family="image",
        licence="unknown",
        job="image",
        scale=latent_facts(decoder)[1],
        prediction_type=schedule.get("prediction_type", "epsilon"),
        defaults=ImageDefaults(),
    )


def _has_ends(folder: ModelFolder) -> bool:
    """Tell whether there is more than a U-Net's layers, which are whole as such: for others."""
    return any(folder.has(part) for part in ("vae", "words", "text_encoder"))


def _attempt_text(folder: ModelFolder, attempts: Attempts) -> None:
    if folder.has("words"):
        attempts.call(load_words, folder)
        return
    for number in ("", "_2") if folder.has(SECOND) else ("",):
        attempts.call(folder.config, f"text_encoder{number}")
        attempts.call(folder.weights, f"text_encoder{number}")
        tokenizer = folder.path(f"tokenizer{number}")
        if not any((tokenizer / name).is_file() for name in TOKENIZERS):
            missing = f"{tokenizer / TOKENIZERS[0]} is missing"
            attempts.note(ModelError(missing, why="prompts need it", fix=REFILL))


def _facts(state: dict[str, Tensor], layers: object) -> PartFacts:
    precisions: Counter[str] = Counter()
    for value in state.values():
        if value.is_floating_point():
            precisions[str(value.dtype).removeprefix("torch.")] += value.numel()
    sites: Counter[str] = Counter()
    if isinstance(layers, Inflated):
        sites.update(site.kind for site in layers.sites)
    return PartFacts(
        parameters=precisions.total(),
        precision=tuple(name for name, _ in precisions.most_common()),
        sites=dict(sites),
    )
