"""Options of judging clips; apart, so that the command line need not load torch."""

from dataclasses import dataclass
from pathlib import Path

from legato.errors import InputError

NAME = "evaluation"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How clips are judged, and what the page shows."""

    lpips: Path | None = None
    """Weights for LPIPS (SqueezeNet, safetensors); without them the package lpips is asked."""

    frames: int | None = None
    """Judge only so many frames of each clip, from its start."""

    seed: int = 0
    """Seed of the bootstrap behind the 95% intervals."""

    shown: int = 12
    """Clips that the page shows in pictures; the tables hold all of them."""

    def __post_init__(self) -> None:
        for name, smallest in (("frames", 1), ("seed", 0), ("shown", 0)):
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise InputError(f"{name}={value}", why="too small", fix=f"use {smallest} or more")
