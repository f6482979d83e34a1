"""A command's options as the entries of a form: read from the fields that make its flags."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

Value = str | bool | None
"""What an entry holds: text, a choice, or whether a switch is on; None or "": left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One option."""

    name: str
    """Of the field, such as `noise_level`."""
    help: str
    """The field's docstring, on one line."""
    heading: str
    """First sentence of the docstring of the options that it belongs to."""
    default: object
    choices: tuple[str, ...] = ()
    """All that a closed option may be; empty: anything."""

    @property
    def flag(self) -> str:
        """The option as the command line names it."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return isinstance(self.default, bool)

    @property
    def is_list(self) -> bool:
        """Whether it takes several values, one a line."""
        return isinstance(self.default, tuple)


def entries(command: type) -> Iterator[Entry]:
    """Yield the options of a command's dataclass and of the options that it holds, in order.

    What the command line names by its place, and what it hides, is left out.
    """
    hints, helps = get_type_hints(command, include_extras=True), documented(command)
    heading = (inspect.getdoc(command) or "").partition(".")[0]
    for found in fields(command):
        hint, marks = _without_marks(hints[found.name])
        if tyro.conf.Positional in marks or tyro.conf.Suppress in marks:
            continue
        if is_dataclass(hint) and isinstance(hint, type):
            yield from entries(hint)
        elif (default := _default(found)) is not MISSING:
            yield Entry(
                name=found.name,
                help=" ".join(helps.get(found.name, "").split()),
                heading=heading,
                default=default,
                choices=_choices(hint),
            )


def to_arguments(chosen: Mapping[Entry, Value]) -> list[str]:
    """Return the flags that say what a form says; what is left alone has none."""
    arguments: list[str] = []
    for entry, value in chosen.items():
        text = "" if value is None else str(value).strip()
        if entry.is_switch:
            arguments += [entry.flag] if value else []
        elif entry.is_list:
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            arguments += [entry.flag, *lines] if lines else []
        elif text and text != str(entry.default):
            arguments.append(f"{entry.flag}={text}")
    return arguments


@cache  # also because Python 3.11 parses code safely in one thread at a time alone
def documented(options: type) -> dict[str, str]:
    """Return the docstrings of a dataclass's fields, its bases' included: tyro shows the same."""
    found: dict[str, str] = {}
    for kind in reversed(options.__mro__):
        if is_dataclass(kind):
            found |= _documented_here(kind)
    return found


def _documented_here(kind: type) -> dict[str, str]:
    body: Sequence[ast.stmt] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body[0], ast.ClassDef)
    lines = body[0].body
    return {
        field.target.id: said.value.value
        for field, said in pairwise(lines)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(said, ast.Expr)
        and isinstance(said.value, ast.Constant)
        and isinstance(said.value.value, str)
    }


def _default(found: "Field[Any]") -> object:
    if found.default_factory is not MISSING:
        return found.default_factory()
    return found.default


def _without_marks(hint: object) -> tuple[object, tuple[object, ...]]:
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return inner, tuple(marks)
    return hint, ()


def _choices(hint: object) -> tuple[str, ...]:
    """Return the values of a Literal, with None or without."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(
        str(value) for part in parts if get_origin(part) is Literal for value in get_args(part)
    )
