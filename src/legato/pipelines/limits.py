"""What options may be; None is left to the model or the recipe, and NaN is never right."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from math import inf
from pathlib import Path

from legato.errors import InputError, ResourceError


def within(name: str, value: float | int | None, low: float | int, high: float | int = inf) -> None:
    """Refuse a number out of range; infinity is in none.

    Raises:
        InputError: it is out of range.
    """
    if value is not None and not (low <= value <= high and value < inf):
        limits = f"{low} or more" if high == inf else f"a number from {low} to {high}"
        raise InputError(f"{name}={value}", why="out of range", fix=f"use {limits}")


def all_within(
    options: object, names: Sequence[str], low: float | int, high: float | int = inf
) -> None:
    """Refuse options out of one range; see `within`."""
    for name in names:
        within(name, getattr(options, name), low, high)


def all_above_zero(options: object, names: Sequence[str]) -> None:
    """Refuse 0, what is smaller and what is not finite.

    Raises:
        InputError: names the first such option.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < inf:
            raise InputError(f"{name}={value}", why="out of range", fix="use more than 0")


def none_empty(options: object, names: Sequence[str]) -> None:
    """Refuse a list that names nothing, as a flag without values does.

    Raises:
        InputError: names the first such option.
    """
    for name in names:
        if not getattr(options, name):
            raise InputError(
                f"{name} is empty", why="there is nothing to do", fix="name at least one"
            )


def in_order(options: object, name: str) -> None:
    """Refuse a list whose entries are not in the order of its default, or there twice.

    Raises:
        InputError: it is such a list.
    """
    given = getattr(options, name)
    ordered = [entry for entry in getattr(type(options), name) if entry in given]
    if list(given) != ordered:
        raise InputError(
            f"{name}={' '.join(given)}",
            why="each goes on from what the ones before it have learned",
            fix=f"use {' '.join(ordered)}",
        )


def require_needed(options: object, needs: Iterable[tuple[str, str, bool]]) -> None:
    """Refuse an option that differs from its default though what it acts on is not there.

    Args:
        options: a dataclass.
        needs: name of an option, what it counts only with, and whether that is there.

    Raises:
        InputError: names the first such option.
    """
    for name, needed, is_there in needs:
        value = getattr(options, name)
        if value != getattr(type(options), name) and not is_there:
            raise InputError(
                f"{name}={value}",
                why=f"it counts only with {needed}",
                fix="leave it out",
            )


def require_raft(weights: Path | None) -> None:
    """Refuse RAFT before any work where it cannot be; torch is not needed to tell.

    Args:
        weights: of RAFT; None: it was not asked for.

    Raises:
        InputError: there is no such file.
        ResourceError: torchvision is not installed.
    """
    if weights is None:
        return
    if not weights.expanduser().is_file():
        raise InputError(
            f"raft={weights}",
            why="there is no such file",
            fix="name RAFT's weights; legato models convert makes them of raft-things.pth",
        )
    if find_spec("torchvision") is None:
        raise ResourceError(
            f"raft={weights}",
            why="RAFT needs torchvision, which is not installed",
            fix="install it, or leave --raft out",
        )


def require_leading(
    guidance_scale: float | None, prompts: Iterable[str], negative_prompt: str
) -> None:
    """Refuse guidance that was asked for where it would lead from a text to the same one.

    Args:
        guidance_scale: as chosen; None, 1 and less ask for none.
        prompts: those of the job.
        negative_prompt: of all of it.

    Raises:
        InputError: all texts are the same.
    """
    is_same = {text.strip() for text in prompts} == {negative_prompt.strip()}
    if guidance_scale is not None and guidance_scale > 1 and is_same:
        raise InputError(
            f"guidance_scale={guidance_scale:g}",
            why="it leads from the negative prompt to the prompt, and these are the same",
            fix="give a prompt, or leave it out",
        )
