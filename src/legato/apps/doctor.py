"""`legato doctor`: what is installed, what is missing, and how to mend it."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from legato import __version__
from legato.apps.arguments import parse
from legato.errors import LegatoError

REQUIRED = (
    "torch",
    "diffusers",
    "transformers",
    "safetensors",
    "av",
    "opencv-python-headless",
    "scenedetect",
    "einops",
    "jaxtyping",
    "tyro",
    "rich",
    "numpy",
)
EXTRAS = {  # module: extra that brings it, and what it is for
    "lpips": ("metrics", "LPIPS by SqueezeNet where --lpips names no file"),
    "imageio_ffmpeg": ("metrics", "VMAF"),
    "gradio": ("page", "the page of `legato web`"),
    "torchvision": ("raft", "the RAFT flow estimator"),
    "accelerate": ("train", "training on several devices"),
    "ncnn": ("peers", "comparison with Real-ESRGAN"),
}
ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores_ks", "ffv1", "aac", "libopus")
BROKEN = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: Literal["ok", "missing", "optional"]
    what: str
    mend: str = ""


@dataclass(frozen=True, kw_only=True)
class DoctorCommand:
    """Say what is installed, what is missing, and how to mend it."""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parse(DoctorCommand, arguments, name="doctor")
    is_broken = False
    for finding in examine():
        is_broken |= finding.state == "missing"
        mend = f"  ->  {finding.mend}" if finding.mend else ""
        sys.stdout.write(f"{finding.state:<8}  {finding.what}{mend}\n")
    return BROKEN if is_broken else 0


def examine() -> Iterator[Finding]:
    """Yield every finding; nothing is changed."""
    yield Finding("ok", f"legato {__version__}, python {platform.python_version()}")
    yield from _packages()
    if importlib.util.find_spec("av"):
        yield from _encoders()
    if importlib.util.find_spec("torch"):
        yield from _machine()
        yield from _models()


def _packages() -> Iterator[Finding]:
    for name in REQUIRED:
        try:
            yield Finding("ok", f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("missing", name, f"pip install {name}")
    for module, (extra, purpose) in EXTRAS.items():
        if importlib.util.find_spec(module):
            yield Finding("ok", f"{module}: {purpose}")
        else:
            yield Finding("optional", f"{module}: {purpose}", f"pip install 'legato[{extra}]'")


def _encoders() -> Iterator[Finding]:
    import av

    for name in ENCODERS:
        if name in av.codecs_available:
            yield Finding("ok", f"encoder {name}")
        else:
            yield Finding("missing", f"encoder {name}", "pip install --force-reinstall av")


def _machine() -> Iterator[Finding]:
    import torch

    from legato.device import (
        available_memory_bytes,
        choose_device,
        choose_dtype,
        largest_int8_weight,
    )

    device = choose_device("auto")
    dtype = str(choose_dtype("auto", device)).removeprefix("torch.")
    free = available_memory_bytes(device) / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    if device.type == "cpu" and dtype == "float32" and largest_int8_weight():
        dtype += ", the embedded upscaler in int8"
    yield Finding("ok", f"computes on {name} in {dtype}: {cores} cores, {free:.1f} GB free")


def _models() -> Iterator[Finding]:
    from legato.models.inspection import inspect_model
    from legato.models.spec import SPECS, find_folder

    for name in (name for name, spec in SPECS.items() if spec.packaged):
        try:
            model = inspect_model(find_folder(name))
        except LegatoError as error:
            yield Finding("missing", f"model {name}: {error.what} ({error.why})", error.fix)
            continue
        for problem in model.problems:
            yield Finding("missing", f"model {name}: {problem}")
        if not model.problems:
            yield Finding("ok", f"model {model.name}, {model.licence}")
