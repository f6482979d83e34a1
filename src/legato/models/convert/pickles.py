"""Foreign `.bin`, `.pt`, `.pth` and `.ckpt` files: tensors only, no program of theirs is run."""

import pickle
import struct
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from legato.errors import ModelError, first_sentence

DAMAGES = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What torch says of damaged files: it looks at little before it reads on."""


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the tensors that a PyTorch file holds, on the CPU; a `state_dict` inside is opened.

    Raises:
        ModelError: the file is missing, damaged, or holds anything but tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} is missing", why="weights are read from it", fix="put the released file there"
        ) from error
    except DAMAGES as error:
        raise ModelError(
            f"{path} cannot be read as weights alone",
            why=first_sentence(error),
            fix="fetch it again; a file that needs more than tensors is refused",
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ModelError(
            f"{path} holds no table of tensors",
            why=f"it holds a {type(content).__name__}",
            fix="give the file that the authors call the weights",
        )
    return content
