"""How commands tell what they did or found on standard output."""

import json
import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

from legato.errors import counted
from legato.pipelines.report import Report, TranslationReport


@runtime_checkable
class Told(Protocol):
    """What has values for programs."""

    def to_json(self) -> dict[str, Any]:
        """Return them."""
        ...


T = TypeVar("T", bound=Told)


def tell(found: T, in_words: Callable[[T], str], *, as_json: bool) -> None:
    """Print a result, as JSON or in words."""
    if as_json:
        print_json(found.to_json())
    else:
        sys.stdout.write(f"{in_words(found)}\n")


def print_json(data: object) -> None:
    """Print values for programs."""
    sys.stdout.write(f"{json.dumps(data, indent=1, default=str)}\n")


def shortfalls(report: Report | TranslationReport) -> list[str]:
    """Return what of the input is not in the output as it was, for a line that tells the job."""
    parts = []
    if report.frames_repeated:
        repeated = counted(report.frames_repeated, "damaged frame repeats", "damaged frames repeat")
        parts.append(f"{repeated} the one before")
    if report.streams["dropped"]:
        parts.append(f"dropped: {', '.join(report.streams['dropped'])}")
    if report.differences:
        parts.append(f"differs: {'; '.join(report.differences)}")
    return parts
