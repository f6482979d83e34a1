"""A U-Net's blocks compiled by torch: fewer, larger steps, for GPUs above all.

The blocks' own forward is compiled, not the modules: the hooks of temporal layers stay outside, and
parameters may leave memory and come back (docs/decisions/0081).
"""

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D

from legato.errors import ResourceError, first_sentence
from legato.models.hooks import replace_forward
from legato.models.inflate import VideoModel

APART: dict[str, Any] = {"isolate_recompiles": True}
"""Blocks of one kind share their code, and torch compiles one code only so many times."""


def require_compiler(device: torch.device) -> None:
    """Compile next to nothing, to learn whether torch can.

    Raises:
        ResourceError: it cannot; says what is missing.
    """
    why = f"torch {version('torch')} cannot keep blocks of one kind apart"
    if APART.keys() <= inspect.signature(torch.compile).parameters.keys():
        try:
            torch.compile(torch.sin)(torch.ones(2, device=device))
            return
        except Exception as error:  # of many kinds, of compilers and of torch
            why = first_sentence(error)
    raise ResourceError(
        "compile=True",
        why=f"torch compiles nothing for {device.type} here: {why}",
        fix="mend that (a C++ compiler, Triton, a newer torch), or leave it out",
    )


def compile_blocks_(unet: VideoModel) -> None:
    """Let torch compile residual blocks, transformer blocks and temporal layers at their first use.

    Each kind of input is compiled anew: a size of frames, a number of frames.
    """
    spatial = [
        module
        for module in unet.spatial.modules()
        if isinstance(module, (ResnetBlock2D, BasicTransformerBlock))
    ]
    for block in [*spatial, *unet.temporal.values()]:
        replace_forward(block, _compiled(block.forward))


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(forward, **APART)
