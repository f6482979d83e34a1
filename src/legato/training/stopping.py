"""How a running loop of training learns that it shall stop, whatever recipe it runs for."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

Stop = Callable[[], bool]
"""Tells whether somebody wants the loop to stop."""
Listening = Callable[[], AbstractContextManager[Stop]]
"""Makes a block in which wishes to stop are heard."""


def _deaf() -> AbstractContextManager[Stop]:
    return nullcontext(lambda: False)


_LISTENING: ContextVar[Listening] = ContextVar("listening", default=_deaf)


@contextmanager
def stopped_by(listening: Listening) -> Iterator[None]:
    """Within the block, loops of training stop behind a step, with a checkpoint, when it says so.

    Args:
        listening: entered by each loop while it runs, and by nothing else: what keeps no
            checkpoint, such as the packing of clips, is better interrupted at once.
    """
    token = _LISTENING.set(listening)
    try:
        yield
    finally:
        _LISTENING.reset(token)


def listening() -> AbstractContextManager[Stop]:
    """Return the block in which a loop hears that it shall stop."""
    return _LISTENING.get()()
