"""A command's help as people read it: the parser's text with its paragraphs whole."""

import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby

FIRST = re.compile(r"^  -h, --help +")
SILENT_DEFAULT = re.compile(r" ?\(default: (?:None|False|''|)\)$")
"""Of an option that is left alone: what it then means is for its words to say."""
NO_VALUE = re.compile(r"\{None\}\||(?<=\{)None,")
"""What leaves an option alone, among the values that it can take."""


def tidied(text: str, columns: int) -> str:
    """Return the help that tyro printed, wrapped to so many columns.

    tyro keeps the line breaks of the source, and wraps what lies between them again.
    """
    lines = [line.rstrip() for line in text.splitlines()]
    first = next((found for line in lines if (found := FIRST.match(line))), None)
    if first is None:
        return text
    at = first.end()
    tidy: list[str] = []
    for is_body, block in groupby(lines, key=_is_body):
        if is_body:
            tidy += _body(block, at, columns)
        else:
            said = (NO_VALUE.sub("", line) for line in block)
            tidy += [part for line in said for part in _lines(line, columns) or [""]]
    return "\n".join(tidy).rstrip() + "\n"


def _is_body(line: str) -> bool:
    return line.startswith("  ") and bool(line.strip(" -"))


def _body(lines: Iterable[str], at: int, columns: int) -> Iterator[str]:
    """Yield the entries of one block, or its words where it has none."""
    paragraph: list[str] = []
    for line in lines:
        if not line[:at].isspace() and paragraph and _is_entry(line):
            yield from _wrapped(paragraph, at, columns)
            paragraph = []
        paragraph.append(line)
    yield from _wrapped(paragraph, at, columns)


def _is_entry(line: str) -> bool:
    return line[2:3] in ("-", "[", "{") or line[2:4].isupper()


def _wrapped(lines: list[str], at: int, columns: int) -> Iterator[str]:
    if not _is_entry(lines[0]):  # what a heading's options are for
        yield from _lines(" ".join(map(str.strip, lines)), columns - 2, indent=2)
        return
    has_room = len(lines[0]) > at and lines[0][at - 2 : at].isspace()
    name = NO_VALUE.sub("", lines[0][:at].rstrip() if has_room else lines[0])
    words = [lines[0][at:] if has_room else "", *lines[1:]]
    said = SILENT_DEFAULT.sub("", " ".join(" ".join(words).split()))
    wrapped = _lines(said, columns, indent=at)
    if wrapped and len(name) + 2 <= at:
        wrapped[0] = name.ljust(at) + wrapped[0][at:]
    else:
        yield name
    yield from wrapped


def _lines(text: str, columns: int, *, indent: int = 0) -> list[str]:
    """Return the text in lines of so many columns; flags and names stay whole."""
    space = " " * indent
    return textwrap.wrap(
        text, columns, initial_indent=space, subsequent_indent=space, break_on_hyphens=False
    )
