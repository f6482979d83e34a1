"""Which device and dtype to compute with, and how much memory there is."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from legato.errors import InputError, ResourceError

CGROUP_LIMITS = (  # limit, usage, statistics and the name there of file pages that can be dropped
    ("/sys/fs/cgroup/memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
KEPT_BYTES = 1 << 25  # the largest threshold that glibc takes
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device; `auto` prefers CUDA, then MPS, then the CPU.

    Raises:
        ResourceError: the device is not there.
        InputError: the name means nothing to torch.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"device={name!r}", why="torch does not know it", fix="use auto, cpu, cuda or mps"
        ) from error
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, True):
        raise ResourceError(
            f"device={name!r}", why="this machine has none that torch can use", fix="use cpu"
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the named dtype; `auto` takes bfloat16 where the hardware multiplies it.

    Raises:
        InputError: the name is not one of `DTYPES` or `auto`.
    """
    if name == "auto":
        if device.type == "cpu":
            return torch.bfloat16 if _multiplies_bfloat16() else torch.float32
        return torch.float16 if device.type == "mps" else torch.bfloat16
    if name not in DTYPES:
        raise InputError(
            f"dtype={name!r}",
            why="not a supported precision",
            fix=f"use auto or one of {', '.join(DTYPES)}; int8 is for small models that upscale",
        )
    return DTYPES[name]


def _multiplies_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 faster than float32.

    Intel's AVX-512 takes longer for it than for float32, which is what is left where a virtual
    machine hides the matrix unit (AMX).
    """
    can = torch.cpu.get_capabilities()
    by_vectors = can.get("avx512_bf16", False) and "Intel" not in can.get("cpu_name", "")
    return bool(can.get("amx_bf16", False) or by_vectors)


def largest_int8_weight() -> int:
    """Return the largest 8-bit weight whose products this CPU adds up whole, 0: float32 is faster.

    VNNI adds them up in 32 bits, AVX2 in pairs in 16, where two times 255 * 63 just has room.
    AVX-512 without VNNI does so too, and is no faster than in float32.
    """
    can = torch.cpu.get_capabilities()
    has_operator = hasattr(torch.ops.onednn, "qconv2d_pointwise")
    if not (torch.backends.mkldnn.is_available() and has_operator):  # type: ignore[no-untyped-call]
        return 0
    if can.get("avx512_vnni", False) or can.get("avx_vnni", False):
        return 127
    return 63 if can.get("avx2", False) and not can.get("avx512_f", False) else 0


def available_memory_bytes(device: torch.device) -> int:
    """Return the free memory of the device; on a CPU, container limits count too."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _system_available_bytes()
    for path, usage, droppable in CGROUP_LIMITS:
        try:
            free = min(free, _cgroup_available_bytes(Path(path), usage, droppable))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return free + _kept_bytes()


def _cgroup_available_bytes(limit: Path, usage: str, droppable: str) -> int:
    statistics = dict(
        line.split() for line in (limit.parent / "memory.stat").read_text().splitlines()
    )
    used = int((limit.parent / usage).read_text()) - int(statistics.get(droppable, 0))
    return int(limit.read_text()) - used


class _HeapStatistics(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _kept_bytes() -> int:
    """Return what glibc keeps of freed memory: this process gets it again."""
    statistics: Any = _glibc("mallinfo2")  # since 2.33
    if statistics is None:
        return 0
    statistics.restype = _HeapStatistics
    return int(statistics().fordblks)


def _system_available_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 1024**3  # systems without /proc: a modest machine


def keep_freed_memory(at_most: int = KEPT_BYTES) -> None:
    """Tell glibc to keep freed memory for the next tensor instead of handing it back.

    Activations of video are large enough that every one of them is a fresh `mmap`, and the page
    faults cost more than the arithmetic. No effect on other C libraries.

    Args:
        at_most: what is larger, in bytes, still goes back: few are, and their holes add up
            (docs/decisions/0011).
    """
    m_mmap_threshold, m_trim_threshold = -3, -1
    if mallopt := _glibc("mallopt"):
        mallopt(m_mmap_threshold, at_most)
        mallopt(m_trim_threshold, 2**31 - 1)


@contextmanager
def keeping_freed_memory(at_most: int) -> Iterator[None]:
    """Within the block, keep only what is smaller, in bytes; afterwards half of `KEPT_BYTES`."""
    keep_freed_memory(at_most)
    try:
        yield
    finally:
        keep_freed_memory(KEPT_BYTES // 2)


def return_freed_memory() -> None:
    """Hand what glibc keeps back to the system, between kinds of work that share few sizes.

    Else holes that the one left are of no use to the other, and both add up.
    """
    if trim := _glibc("malloc_trim"):
        trim(0)


@cache
def _glibc(name: str) -> Callable[..., Any] | None:
    """Return a function of glibc; None where the C library is another or an older one."""
    try:
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
        return found
    except (OSError, AttributeError, TypeError):
        return None
