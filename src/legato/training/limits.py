"""What the options of recipes may be; None is left to the recipe, and NaN is never right."""

from collections.abc import Sequence
from math import inf

from legato.errors import InputError


def require_at_least(
    smallest: int, options: object, names: Sequence[str], *, most: int | None = None
) -> None:
    """Refuse numbers that are smaller, larger or not finite.

    Raises:
        InputError: names the first such option.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not (smallest <= value < inf and value <= (most or value)):
            limit = f"{smallest} or more" if most is None else f"{smallest} to {most}"
            raise InputError(f"{name}={value}", why="out of range", fix=f"use {limit}")


def require_positive(options: object, names: Sequence[str]) -> None:
    """Refuse 0, what is smaller and what is not finite.

    Raises:
        InputError: names the first such option.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < inf:
            raise InputError(f"{name}={value}", why="out of range", fix="use more than 0")
