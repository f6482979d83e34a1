"""Where and how a job runs."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from legato.errors import InputError
from legato.options import require_types

Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "xla", "mtia")
"""Kinds of devices that torch computes with."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a job runs; none of it changes what the result should be."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps, ..."""

    dtype: Precision = "auto"
    """Precision of the networks; int8, whose convolutions multiply 8-bit integers, is for the
    embedded upscaler on CPUs with VNNI or AVX2 alone."""

    offload: bool = False
    """Keep only the part of the upscaling model in memory that is at work, and read the other again
    when it is needed; chosen by itself where memory is short. Other models are in memory whole."""

    compile: bool = False
    """Compile the blocks of the upscaling model's U-Net by torch.compile: minutes before the first
    frame, and before the first of every other size; meant for GPUs and full-size models."""

    restart: bool = False
    """Forget what an interrupted run of this output has finished, and begin anew."""

    report: Path | None = None
    """Where to write the report. Default: beside the output, as NAME.legato.json."""

    def __post_init__(self) -> None:
        require_types(self)
        if not re.fullmatch(rf"auto|({'|'.join(DEVICES)})(:\d+)?", self.device):
            raise InputError(
                f"device={self.device!r}",
                why="torch does not know it",
                fix="use auto, cpu, cuda or mps",
            )
        if self.dtype not in get_args(Precision):
            raise InputError(
                f"dtype={self.dtype!r}",
                why="not a supported precision",
                fix="use auto, float32, bfloat16 or float16; int8 is for small models that upscale",
            )

    def refuse_upscaling(self) -> None:
        """Refuse what only upscaling models have, where none is at work.

        Raises:
            InputError: it was chosen.
        """
        for name, chosen in (("offload", self.offload), ("compile", self.compile)):
            if chosen:
                raise InputError(
                    f"{name}=True", why="only upscaling models have it", fix="leave it out"
                )
