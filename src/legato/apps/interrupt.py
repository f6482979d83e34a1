"""Ctrl-C and SIGTERM: the first asks the job to stop behind its segment, the second ends it."""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class StopOnSignal:
    """While the block runs, is true (when called) once a signal has come; a second one interrupts.

    Raises:
        KeyboardInterrupt: at the second signal, wherever the program is.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Tell whether somebody wants the job to stop."""
        return self._requested.is_set()

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._requested.is_set():
            raise KeyboardInterrupt
        self._requested.set()
        sys.stderr.write("\nstopping behind this segment; once more stops at once\n")
        sys.stderr.flush()
