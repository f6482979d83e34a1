"""What a running job tells whoever watches it: progress and notices."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

logger = logging.getLogger(__name__)

Stage = Literal[
    "load",
    "survey",
    "caption",
    "keyframes",
    "interpolate",
    "decode",
    "restore",
    "join",
    "verify",
    "notice",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. Counts are frames; fractions of a frame are work half done."""

    stage: Stage
    done: float | int = 0
    total: int | None = None
    message: str = ""


OnEvent = Callable[[Event], None]
Stop = Callable[[], bool]
"""Asked between segments: whether the job shall stop where it can go on."""


def ignore(_: Event) -> None:
    """Watch nothing."""


def never() -> bool:
    """Do not stop."""
    return False


def notice(on_event: OnEvent, message: str) -> str:
    """Log a sentence that the user should read, tell the watcher, and return it."""
    logger.info(message)
    on_event(Event(stage="notice", message=message))
    return message


class Passes:
    """Counts passes through the network and tells the share of them.

    Args:
        total: passes of the whole work.
        listener: told the share that is done.
    """

    def __init__(self, total: int, listener: Callable[[float | int], None] | None) -> None:
        self._done, self._total, self._listener = 0, total, listener

    def advance(self) -> None:
        """Count one pass."""
        self._done += 1
        if self._listener is not None:
            self._listener(self._done / self._total)
