"""`legato models convert IN OUT` and `pull NAME`: models that others have published."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from legato.apps.arguments import Flat, parse
from legato.apps.models import LENDING
from legato.models.convert.sources import ConvertOptions
from legato.models.convert.sources import convert as convert_folder
from legato.models.manifest import LAYERS
from legato.models.pull import pull as pull_model


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Make a model folder from released files.

    They are Upscale-A-Video's, an image upscaler's of diffusers (Stable Diffusion x4 and its
    derivatives), Stable Video Diffusion's, or AnimateDiff's motion modules. Of .bin, .pth and .ckpt
    files only tensors are read.
    """

    source: tyro.conf.Positional[Path]
    """Folder of the released files, or a single one; they tell which model it is."""

    target: tyro.conf.Positional[Path]
    """Folder to write."""

    options: Flat[ConvertOptions] = field(default_factory=ConvertOptions)


@dataclass(frozen=True, kw_only=True)
class PullCommand:
    """Download a known model from the Hugging Face hub and convert it; repeated, it goes on.

    Files are compared with the hashes that are published, and ever after with those of the first
    download. The model can then be used by its name; one that is here and whole stays as it is.
    """

    name: tyro.conf.Positional[str]
    """Of the model, as `legato models list` shows it."""

    options: Flat[ConvertOptions] = field(default_factory=ConvertOptions)


def convert(arguments: Sequence[str]) -> int:
    """Run `legato models convert` and return its exit code."""
    command = parse(ConvertCommand, arguments, name="models convert")
    manifest = convert_folder(command.source, command.target, command.options)
    job = LENDING if manifest.job == LAYERS else f"to {manifest.job}"
    job += f", family {manifest.family}"
    sys.stdout.write(f"{command.target}: {manifest.name}, {job}, licence {manifest.licence}\n")
    return 0


def pull(arguments: Sequence[str]) -> int:
    """Run `legato models pull` and return its exit code."""
    command = parse(PullCommand, arguments, name="models pull")
    folder = pull_model(command.name, command.options, on_file=_say)
    sys.stdout.write(f"{command.name}: {folder}\n")
    return 0


def _say(name: str, size: int) -> None:
    sys.stderr.write(f"{name}  {size / 1e6:.1f} MB\n")
