import threading
import time

import pytest

from legato.pipelines.background import Prefetch, WriteBehind


def test_items_arrive_in_order_and_end():
    assert list(Prefetch(iter(range(50)), depth=3)) == list(range(50))


def test_an_error_arrives_behind_the_items_before_it():
    def broken():
        yield 1
        raise ValueError("gone")

    items = iter(Prefetch(broken(), depth=3))
    assert next(items) == 1
    with pytest.raises(ValueError, match="gone"):
        next(items)


def test_no_more_than_depth_items_wait():
    made = []

    def endless():
        while True:
            made.append(1)
            yield 1

    before = threading.active_count()
    ahead = Prefetch(endless(), depth=4)
    time.sleep(0.2)
    assert len(made) <= 5 + 1
    ahead.close()
    assert threading.active_count() == before


def test_all_items_are_written_in_order_before_the_block_ends():
    written = []
    with WriteBehind(written.append, depth=2) as behind:
        for item in range(30):
            behind.put(item)
    assert written == list(range(30))


def test_a_failed_write_is_raised():
    def fail(_):
        raise OSError("full")

    with pytest.raises(OSError, match="full"), WriteBehind(fail, depth=1) as behind:
        behind.put(1)


def test_what_waits_is_dropped_when_the_producer_fails():
    written, started, gate = [], threading.Event(), threading.Event()

    def write(item):
        started.set()
        gate.wait()
        written.append(item)

    def produce():
        with WriteBehind(write, depth=9) as behind:
            for item in range(5):
                behind.put(item)
            started.wait()
            threading.Timer(0.2, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        produce()
    assert written == [0]


def test_an_error_of_the_producer_wins_and_the_thread_ends():
    before = threading.active_count()
    with pytest.raises(KeyError), WriteBehind(lambda _: None, depth=1):
        raise KeyError
    assert threading.active_count() == before
