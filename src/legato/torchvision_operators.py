"""Lets torchvision load beside a build of torch that it was not built for.

transformers and diffusers import torchvision wherever it is installed. Beside a CPU build of torch
its own library cannot load, and its Python code then fails for want of two operators that nothing
here needs (neither diffusers' models nor RAFT).
"""

from importlib.util import find_spec
from typing import Any

UNUSED_OPERATORS = ("nms", "qnms")
_DECLARED: list[Any] = []  # a library is withdrawn when it is collected


def declare_missing() -> None:
    """Declare the operators where torchvision is installed and fails without them."""
    if _DECLARED or find_spec("torchvision") is None:
        return
    import torch  # here, so that without torchvision nobody waits for it

    try:
        import torchvision  # noqa: F401  (to see whether it can be)
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in UNUSED_OPERATORS:
            signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(signature)  # type: ignore[no-untyped-call]
        _DECLARED.append(library)
