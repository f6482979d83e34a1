"""What a segment leaves behind for the next one of the same shot."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Exact tensors that make the next segment continue as if there had been no cut.

    Attributes:
        position: index in the shot of the next frame to emit.
        tensors: named tensors, on the CPU.
    """

    position: int
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the state as safetensors, whole or not at all, bit for bit."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: Path) -> "Carried":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or damaged.
        """
        raise NotImplementedError
