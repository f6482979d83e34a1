"""Ctrl-C and SIGTERM: the first asks the work to stop where it can go on, the second ends it."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Within the block, signals go to a handler, save those that are ignored, as under nohup."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class StopOnSignal:
    """While the block runs, is true (when called) once a signal has come; a second one interrupts.

    Args:
        behind: what is finished first.

    Raises:
        KeyboardInterrupt: at the second signal, wherever the program is.
    """

    def __init__(self, behind: str = "segment") -> None:
        self._behind = behind
        self._requested = threading.Event()
        self._handled = handled_by(self._on_signal)

    def __call__(self) -> bool:
        """Tell whether somebody wants the job to stop."""
        return self._requested.is_set()

    def __enter__(self) -> "StopOnSignal":
        self._handled.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handled.__exit__(kind, error, trace)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._requested.is_set():
            raise KeyboardInterrupt
        self._requested.set()
        sys.stderr.write(f"\nstopping behind this {self._behind}; once more stops at once\n")
        sys.stderr.flush()
