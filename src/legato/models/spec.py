"""Names of models: where each comes from, under which licence, and where it is looked for."""

from dataclasses import dataclass
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
    sha256: str | None = None
    """Of the U-Net's weights; None: not known."""
    packaged: str | None = None
    """Folder inside this package."""
    converted: bool = False
    """Whether its files have to be converted first, with `legato models convert`."""


SPECS: dict[str, ModelSpec] = {
    "embedded-x4": ModelSpec(
        job="upscale", source="legato", licence="Apache-2.0", packaged="embedded_x4"
    ),
    "upscale-a-video": ModelSpec(
        job="upscale",
        source="the authors' files (unet_video.bin, vae_video.bin and the folders beside them)",
        mirrors=("Runware/Video-Upscale",),
        licence="NTU S-Lab 1.0 (non-commercial)",
        converted=True,
    ),
    "sd-x4-upscaler": ModelSpec(
        job="upscale",
        source="stabilityai/stable-diffusion-x4-upscaler",
        mirrors=("sd2-community/stable-diffusion-x4-upscaler",),
        licence="CreativeML Open RAIL++-M",
    ),
}


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
    folder = PACKAGED / spec.packaged if spec.packaged else HOME / name_or_path
    if folder.is_dir():
        return folder
    raise ModelError(
        f"model {name_or_path!r}", why=f"{folder} is not there", fix=_advice(spec, folder)
    )


def _advice(spec: ModelSpec, folder: Path) -> str:
    if spec.packaged:
        return "install legato again: this model is part of it"
    if spec.converted:
        return f"get {spec.source} and run: legato models convert FOLDER {folder}"
    hubs = " or ".join((spec.source, *spec.mirrors))
    return (
        f"download {hubs} (revision {spec.revision}, licence {spec.licence}; safetensors and JSON "
        f"files) into {folder}"
    )
