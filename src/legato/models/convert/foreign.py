"""Folders in diffusers layout as their authors publish them: pickles, single parts, a licence."""

import re
from pathlib import Path

from torch import Tensor

from legato.models.convert.pickles import read_pickle
from legato.models.folder import ModelFolder

PICKLE_NAMES = (
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
    "pytorch_model.bin",
    "pytorch_model.fp16.bin",
)
UNKNOWN_LICENCE = "unknown: see where it came from"


class ForeignFolder(ModelFolder):
    """A folder of diffusers whose pickles are read too, for the tensors in them.

    Args:
        root: the folder, or that of a U-Net alone.
        base: another folder that gives the parts that this one lacks.

    Raises:
        ModelError: there is no such folder.
    """

    def __init__(self, root: Path, *, base: Path | None = None) -> None:
        super().__init__(root)
        self.base = ModelFolder(base) if base else None

    def path(self, part: str) -> Path:
        """Return where the files of a part are: here, or else in the base."""
        if part == "unet" and not self.has(part) and (self.root / "config.json").is_file():
            return self.root
        if self.base is not None and not self.has(part):
            return self.base.path(part)
        return super().path(part)

    def weights(self, part: str) -> dict[str, Tensor]:
        """Return the tensors of a part, from safetensors where there are any.

        Raises:
            ModelError: there are none, or they are damaged or more than tensors.
        """
        folder = self.path(part)
        pickles = [folder / name for name in PICKLE_NAMES if (folder / name).is_file()]
        if pickles and not any(folder.glob("*.safetensors*")):
            return read_pickle(pickles[0])
        return super().weights(part)

    def licence(self) -> str:
        """Return the licence that the model card's header names."""
        card = self.root / "README.md"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        header = text.split("---")[1] if text.startswith("---") else ""
        found = re.search(r"^license(?:_name)?: *[\"']?([\w.+-]+)", header, re.MULTILINE)
        return found[1] if found else UNKNOWN_LICENCE
