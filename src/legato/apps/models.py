"""`legato models list` and `legato models convert IN OUT`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from legato.apps.arguments import parse
from legato.errors import InputError, ModelError


@dataclass(frozen=True, kw_only=True)
class ListCommand:
    """List the models that are known by name: which are here, and what the others need."""


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Make a model folder from the files of Upscale-A-Video that you have.

    This is the one command that reads .bin, .pth and .ckpt files, and only tensors in them.
    """

    source: tyro.conf.Positional[Path]
    """Folder with unet/, vae/, scheduler/, low_res_scheduler/, text_encoder/ and tokenizer/."""

    target: tyro.conf.Positional[Path]
    """Folder to write."""

    decoder: Literal["vae_video", "vae_3d"] = "vae_video"
    """The temporal decoder of the paper, or the one that decodes frame by frame."""

    dtype: Literal["float16", "float32"] = "float16"
    """Precision of what is written."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    actions = {"list": _list, "convert": _convert}
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write("usage: legato models list\n       legato models convert IN OUT\n")
        return 0 if arguments else 2
    if arguments[0] not in actions:
        raise InputError(
            f"models {arguments[0]!r}",
            why="there is no such action",
            fix=f"use {' or '.join(actions)}",
        )
    return actions[arguments[0]](arguments[1:])


def _list(arguments: Sequence[str]) -> int:
    parse(ListCommand, arguments, name="models list")
    from legato.models.spec import SPECS, find_folder

    for name, spec in SPECS.items():
        try:
            where = f"installed: {find_folder(name)}"
        except ModelError as error:
            where = f"not installed: {error.fix}"
        sys.stdout.write(f"{name}  ({spec.job}, {spec.licence})\n    {where}\n")
    return 0


def _convert(arguments: Sequence[str]) -> int:
    command = parse(ConvertCommand, arguments, name="models convert")
    import torch

    from legato.models.convert.upscale_a_video import convert_upscale_a_video

    manifest = convert_upscale_a_video(
        command.source,
        command.target,
        decoder=command.decoder,
        dtype={"float16": torch.float16, "float32": torch.float32}[command.dtype],
    )
    sys.stdout.write(f"{command.target}: {manifest.name}, {manifest.licence}\n")
    return 0
