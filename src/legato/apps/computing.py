"""How torch shall compute in a process that is ours: on all cores, keeping freed memory."""

import os


def prepare_torch() -> None:
    """Use every core that this process may use (OMP_NUM_THREADS says otherwise), and keep memory.

    Torch is imported here, behind the parsing of flags, so that a typing error costs no time.
    """
    import torch

    from legato.device import keep_freed_memory

    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    keep_freed_memory()
