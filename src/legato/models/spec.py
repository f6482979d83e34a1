"""Names of models: where each comes from, under which licence, and where it is looked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from legato.errors import ModelError

PACKAGED = Path(__file__).parent
HOME = Path.home() / ".cache" / "legato" / "models"
"""Where folders of models that are not part of the package are looked for."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model by name."""

    job: Literal["upscale", "generate", "translate"]
    source: str
    """Hub identifier, or where else its files come from."""
    licence: str
    mirrors: tuple[str, ...] = ()
    """Other hub identifiers to try for the same files."""
    revision: str = "main"
    """Commit or branch at the hub."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Of files at the hub, where known; the others' are recorded at the first download."""
    packaged: str | None = None
    """Folder inside this package."""
    at_hub: bool = True
    """Whether `source` is a hub identifier."""
    needs: str = ""
    """What it works with, where it is no whole model."""

    @property
    def hubs(self) -> tuple[str, ...]:
        """Hub identifiers to try in turn; none: it is not at the hub."""
        return (self.source, *self.mirrors) if self.at_hub else self.mirrors


SPECS: dict[str, ModelSpec] = {
    "embedded-x4": ModelSpec(
        job="upscale",
        source="legato",
        licence="Apache-2.0",
        packaged="embedded_x4",
        at_hub=False,
    ),
    "driving": ModelSpec(
        job="generate",
        source="legato",
        licence="Apache-2.0",
        packaged="driving",
        at_hub=False,
    ),
    "upscale-a-video": ModelSpec(
        job="upscale",
        source="the authors' files (unet_video.bin, vae_video.bin and the folders beside them)",
        mirrors=("Runware/Video-Upscale",),
        licence="NTU S-Lab 1.0 (non-commercial)",
        at_hub=False,
    ),
    "sd-x4-upscaler": ModelSpec(
        job="upscale",
        source="stabilityai/stable-diffusion-x4-upscaler",
        mirrors=("sd2-community/stable-diffusion-x4-upscaler",),
        licence="CreativeML Open RAIL++-M",
    ),
    "animatediff-v2": ModelSpec(
        job="generate",
        source="guoyww/animatediff-motion-adapter-v1-5-2",
        licence="see its model card",
        needs="temporal layers for Stable Diffusion 1.5 and image models made from it",
    ),
    "animatediff-v3": ModelSpec(
        job="generate",
        source="guoyww/animatediff-motion-adapter-v1-5-3",
        licence="see its model card",
        needs="temporal layers for Stable Diffusion 1.5 and image models made from it",
    ),
}


def installed() -> list[str]:
    """Return the names of the known models that are here."""
    return [name for name in SPECS if _folder_of(name).is_dir()]


def home_of(name: str) -> Path:
    """Return the folder that a model of this name has, or would have, if it is not packaged."""
    return HOME / name


def find_folder(name_or_path: str) -> Path:
    """Return the folder of a model given by name or by path.

    Raises:
        ModelError: there is no such folder; the message says what to put where.
    """
    path = Path(name_or_path).expanduser()
    spec = SPECS.get(name_or_path)
    if spec is None:
        if path.is_dir():
            return path
        raise ModelError(
            f"model {name_or_path!r}",
            why="it is neither a known name nor a folder",
            fix=f"use {', '.join(SPECS)}, or the path of a model folder",
        )
    folder = _folder_of(name_or_path)
    if folder.is_dir():
        return folder
    raise ModelError(
        f"model {name_or_path!r}", why=f"{folder} is not there", fix=_advice(spec, folder)
    )


def _folder_of(name: str) -> Path:
    packaged = SPECS[name].packaged
    return PACKAGED / packaged if packaged else home_of(name)


def _advice(spec: ModelSpec, folder: Path) -> str:
    if spec.packaged:
        return "install legato again: this model is part of it"
    return (
        f"run: legato models pull {folder.name} (licence {spec.licence}); or get {spec.source} and "
        f"run: legato models convert FOLDER {folder}"
    )
