"""`legato models convert IN OUT`: models that others have published."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from legato.apps.arguments import parse
from legato.models.convert.sources import ConvertOptions
from legato.models.convert.sources import convert as convert_folder
from legato.models.folder import Manifest


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Make a model folder from released files.

    They are Upscale-A-Video's, an image upscaler's of diffusers (Stable Diffusion x4 and its
    derivatives), or Stable Video Diffusion's. Of .bin, .pth and .ckpt files only tensors are read.
    """

    source: tyro.conf.Positional[Path]
    """Folder of the released files; they tell which model it is."""

    target: tyro.conf.Positional[Path]
    """Folder to write."""

    options: ConvertOptions = field(default_factory=ConvertOptions)


def convert(arguments: Sequence[str]) -> int:
    """Run `legato models convert` and return its exit code."""
    command = parse(ConvertCommand, arguments, name="models convert")
    manifest = convert_folder(command.source, command.target, command.options)
    return _written(command.target, manifest)


def _written(target: Path, manifest: Manifest) -> int:
    job = f"to {manifest.job}, family {manifest.family}"
    sys.stdout.write(f"{target}: {manifest.name}, {job}, licence {manifest.licence}\n")
    return 0
