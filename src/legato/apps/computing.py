"""How torch is imported and shall compute in a process that is ours."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing_torch() -> Iterator[None]:
    """Import torch and what needs it within the block, behind the parsing of flags.

    No garbage is looked for meanwhile, nor ever after among what was imported: half a million
    objects, which cost a third of the imports' time and a quarter of a second after each segment.
    Torch then computes on every core that this process may use (OMP_NUM_THREADS says otherwise) and
    keeps freed memory.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
    import torch

    from legato.device import keep_freed_memory

    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    keep_freed_memory()
