"""`legato models convert IN OUT` and `pull NAME`: models that others have published."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from torch import Tensor

from legato.apps.arguments import Flat, Input, Output, parse
from legato.apps.models import LENDING
from legato.errors import InputError, ModelError
from legato.flow.raft import is_raft, save_raft
from legato.models.convert.pickles import read_pickle
from legato.models.convert.sources import FILES, ConvertOptions
from legato.models.convert.sources import convert as convert_folder
from legato.models.folder import read_weights
from legato.models.manifest import LAYERS
from legato.models.pull import pull as pull_model
from legato.video.atomic import put_in_place, temporary_beside

RAFT_BYTES = 1 << 27
"""More than the large RAFT's weights take: larger files are not read to see whether they are."""
SAFETENSORS = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Make a model folder from released files.

    They are Upscale-A-Video's, an image upscaler's of diffusers (Stable Diffusion x4 and its
    derivatives), Stable Video Diffusion's, or AnimateDiff's motion modules; or RAFT's weights,
    which become one file for --raft. Of .bin, .pth and .ckpt files only tensors are read.
    """

    source: tyro.conf.Positional[Input]
    """Folder of the released files, or a single one; they tell which model it is."""

    target: tyro.conf.Positional[Output]
    """Folder to write; of RAFT's weights a .safetensors file."""

    options: Flat[ConvertOptions] = field(default_factory=ConvertOptions)


@dataclass(frozen=True, kw_only=True)
class PullCommand:
    """Download a known model from the Hugging Face hub and convert it; repeated, it goes on.

    Files are compared with the hashes that are published, and ever after with those of the first
    download. The model can then be used by its name; one that is here and whole stays as it is.
    """

    name: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]
    """Of the model, as `legato models list` shows it."""

    options: Flat[ConvertOptions] = field(default_factory=ConvertOptions)

    quiet: bool = False
    """Show no progress."""


def convert(arguments: Sequence[str]) -> int:
    """Run `legato models convert` and return its exit code."""
    command = parse(ConvertCommand, arguments, name="models convert")
    weights = _raft_weights(command.source)
    if weights is not None:
        return _convert_raft(command, weights)
    manifest = convert_folder(command.source, command.target, command.options)
    job = LENDING if manifest.job == LAYERS else f"to {manifest.job}"
    job += f", family {manifest.family}"
    sys.stdout.write(f"{command.target}: {manifest.name}, {job}, licence {manifest.licence}\n")
    return 0


def _raft_weights(source: Path) -> Mapping[str, Tensor] | None:
    """Return the tensors of a file of RAFT's weights; None: it is anything else."""
    is_small = source.is_file() and source.stat().st_size <= RAFT_BYTES
    if not is_small or source.suffix.lower() not in FILES:
        return None
    try:
        is_safe = source.suffix.lower() == SAFETENSORS
        state = read_weights(source) if is_safe else read_pickle(source)
    except ModelError:
        return None  # the way of all other files tells what is wrong with it
    return state if is_raft(state) else None


def _convert_raft(command: ConvertCommand, weights: Mapping[str, Tensor]) -> int:
    """Write RAFT's weights, whole or not at all.

    Raises:
        InputError: an option that means nothing for them, or the target cannot be used.
        ModelError: they are not those of the large RAFT.
    """
    target, options = command.target, command.options
    for name in ("decoder", "base", "dtype"):
        if getattr(options, name) is not None:
            raise InputError(
                f"{name}={getattr(options, name)}",
                why="it means nothing for RAFT's weights",
                fix="leave it out",
            )
    if target.suffix.lower() != SAFETENSORS or target.exists():
        raise InputError(
            f"{target}",
            why="it is there already" if target.exists() else "RAFT's weights become one file",
            fix="name a new .safetensors file",
        )
    temporary = temporary_beside(target)
    try:
        save_raft(weights, temporary)
        put_in_place(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sys.stdout.write(f"{target}: RAFT's weights, for --raft\n")
    return 0


def pull(arguments: Sequence[str]) -> int:
    """Run `legato models pull` and return its exit code."""
    command = parse(PullCommand, arguments, name="models pull")
    folder = pull_model(command.name, command.options, on_file=None if command.quiet else _say)
    sys.stdout.write(f"{command.name}: {folder}\n")
    return 0


def _say(name: str, size: int) -> None:
    sys.stderr.write(f"{name}  {size / 1e6:.1f} MB\n")
