"""Which temporal layers attach to which image model: the same layers move between checkpoints.

Temporal layers fit every image model of the topology that they were trained on, whatever it was
fine-tuned to (Blattmann et al. 2023, arXiv:2304.08818, section 4.2.1). Only headers are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from legato.errors import ModelError
from legato.models.folder import ModelFolder
from legato.models.parts import SCHEDULE, load_unet


@dataclass(frozen=True, kw_only=True)
class Match:
    """Temporal layers of one folder beside the image model of another, or of the same."""

    layers: str
    """Folder of the temporal layers."""
    image: str
    """Folder of the image model."""
    reason: str | None
    """Why they do not fit; None: they do."""
    notes: tuple[str, ...] = ()
    """What differs beside the topology."""

    @property
    def fits(self) -> bool:
        """Whether the layers attach."""
        return self.reason is None


def matches(roots: Sequence[Path]) -> list[Match]:
    """Hold all temporal layers among some folders beside all image models among them.

    Args:
        roots: model folders, or such of diffusers.

    Raises:
        ModelError: one of them is no folder, or its `legato.json` cannot be understood.
    """
    folders = [ModelFolder(root, headers_only=True) for root in roots]
    temporal = [folder for folder in folders if folder.has("temporal")]
    image = [folder for folder in folders if folder.has("unet")]
    return [match(layers, unet) for layers in temporal for unet in image]


def match(layers: ModelFolder, image: ModelFolder) -> Match:
    """Try to attach the temporal layers of one folder to the image model of another."""
    reason, notes = None, []
    try:
        load_unet(layers, image=image)
    except ModelError as error:
        reason = str(error)
    given, wanted = _predicts(image), _predicts(layers)
    if given and wanted and given != wanted:
        notes.append(f"they were trained to predict {wanted}, the image model {given}")
    return Match(layers=str(layers.root), image=str(image.root), reason=reason, notes=tuple(notes))


def _predicts(folder: ModelFolder) -> str | None:
    """Return what a folder's model predicts; None: it does not say."""
    if folder.manifest is not None:
        return folder.manifest.prediction_type
    if not (folder.path("scheduler") / SCHEDULE).is_file():
        return None
    found: str = folder.config("scheduler", SCHEDULE).get("prediction_type", "epsilon")
    return found
