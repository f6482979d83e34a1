"""Frame times made strictly increasing where a file has them missing, doubled or reversed."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")
LONGEST_SLIP = Fraction(1)  # seconds; a larger step back starts a new stretch


def mend_times(
    items: Iterable[tuple[T, int | None]], *, nominal: int, longest_slip: int
) -> Iterator[tuple[T, int, bool]]:
    """Yield each item with a strictly increasing time, and whether that time was mended.

    Times that increase are kept as they are. A missing one follows its predecessor by `nominal`;
    a doubled one goes midway to its successor; one that falls back by more than `longest_slip`
    starts a new stretch, whose times are moved to follow on.

    Args:
        items: things with raw times in ticks, None where there is none, in order.
        nominal: usual distance of neighbours in ticks.
        longest_slip: larger steps back are discontinuities, not disorder.
    """
    last: int | None = None
    offset = 0
    for (item, raw), following in _with_following(items):
        if raw is None:
            time = 0 if last is None else last + nominal
        else:
            time = raw + offset
            if last is not None and time < last - longest_slip:
                offset += last + nominal - time
                time = last + nominal
            elif last is not None and time <= last:
                room = nominal * 2 if following is None else following + offset - last
                time = last + (max(1, room // 2) if room > 1 else nominal)
        yield item, time, raw is None or time != raw
        last = time


def round_times(
    items: Iterable[tuple[Fraction, T]], time_base: Fraction
) -> Iterator[tuple[int, T]]:
    """Yield each item with its time rounded to ticks (half up), one later where two would meet.

    Args:
        items: increasing times in seconds, and things.
        time_base: seconds per tick.
    """
    last: int | None = None
    for time, item in items:
        ticks = math.floor(time / time_base + Fraction(1, 2))
        if last is not None and ticks <= last:
            ticks = last + 1
        yield ticks, item
        last = ticks


def _with_following(
    items: Iterable[tuple[T, int | None]],
) -> Iterator[tuple[tuple[T, int | None], int | None]]:
    """Pair each item with the next one's raw time."""
    held: tuple[T, int | None] | None = None
    for item in items:
        if held is not None:
            yield held, item[1]
        held = item
    if held is not None:
        yield held, None
