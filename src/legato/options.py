"""Options that hold what they say they hold: each field's type is checked when they are made.

The command line parses by the same annotations; this is for callers in Python.
"""

from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from legato.errors import InputError

_NUMBERS: dict[Any, type] = {int: Integral, float: Real}
"""What may stand for a number; True may not."""


def require_types(options: Any) -> None:  # noqa: ANN401  (any dataclass of options)
    """Refuse values of other types than their fields are annotated with.

    Raises:
        InputError: names the first such field, its value and what it takes.
    """
    hints = _hints(options.__class__)
    for field in fields(options):
        value, hint = getattr(options, field.name), hints[field.name]
        if not _fits(value, hint):
            raise InputError(
                f"{field.name}={value!r}",
                why=f"it is of type {type(value).__name__}",
                fix=f"use {_words(hint)}",
            )


_hints = cache(get_type_hints)


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401  (any annotation)
    """Tell whether a value is of a type; which of a `Literal`'s values is asked elsewhere."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return isinstance(value, tuple(map(type, parts)))
    if kind is tuple and parts[-1] is not Ellipsis:
        return (
            isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
        )
    if kind is tuple:
        return isinstance(value, tuple) and all(_fits(item, parts[0]) for item in value)
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def _words(hint: Any) -> str:  # noqa: ANN401  (any annotation)
    """Say what a field takes."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(map(_words, parts))
    if kind is Literal:
        return ", ".join(map(str, parts))
    if kind is tuple:
        return f"a tuple of {_words(parts[0])}"
    names = {NoneType: "None", bool: "True or False", int: "a whole number", float: "a number"}
    return names.get(hint) or {"str": "text", "Path": "a pathlib.Path"}.get(
        hint.__name__, hint.__name__
    )
