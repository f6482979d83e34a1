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


def ignore(_: Event) -> None:
    """Watch nothing."""


def notice(on_event: OnEvent, message: str) -> str:
    """Log a sentence that the user should read, tell the watcher, and return it."""
    logger.info(message)
    on_event(Event(stage="notice", message=message))
    return message
