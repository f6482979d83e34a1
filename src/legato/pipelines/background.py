"""Decoding and encoding beside the model: one thread each, with short queues."""

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_END = object()


class Prefetch(Generic[T]):
    """Iterates in a thread of its own, at most `depth` items ahead; errors arrive in order.

    Args:
        items: what to iterate over; touched by the thread only.
        depth: items computed ahead.
    """

    def __init__(self, items: Iterator[T], *, depth: int) -> None:
        self._queue: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(items,), daemon=True)
        self._thread.start()

    def _run(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                self._put(item)
                if self._stopped.is_set():
                    return
            self._put(_END)
        except BaseException as error:  # handed to the consumer, which raises it
            self._put(_Failure(error))

    def _put(self, item: object) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if item is _END:
                self._queue.put(_END)
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stopped.set()
        self._thread.join()


class WriteBehind(Generic[T]):
    """Calls `write` for each item in a thread of its own, in order, at most `depth` behind.

    Leaving the block waits for the last item; what `write` raised is raised there or by `put`.
    Leaving it by an exception drops the items that wait.
    """

    def __init__(self, write: Callable[[T], None], *, depth: int) -> None:
        self._write = write
        self._queue: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while (item := self._queue.get()) is not _END:
            if self._error is None:
                try:
                    self._write(item)  # type: ignore[arg-type]
                except BaseException as error:  # raised by the producer's next call
                    self._error = error

    def put(self, item: T) -> None:
        """Hand over one item; waits while the queue is full."""
        self._raise()
        self._queue.put(item)

    def __enter__(self) -> "WriteBehind[T]":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._error = self._error or error
        self._queue.put(_END)
        self._thread.join()
        if kind is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
