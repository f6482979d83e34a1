"""Flags from frozen options: one parser for every command."""

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar

import tyro

from legato.apps.help import tidied
from legato.errors import InputError
from legato.pipelines.run_options import RunOptions

T = TypeVar("T")
Input = Annotated[Path, tyro.conf.arg(metavar="IN")]
Output = Annotated[Path, tyro.conf.arg(metavar="OUT")]
Flat = Annotated[T, tyro.conf.arg(name="")]
"""Options of a command whose name no heading of its help repeats."""

SAMPLING_ALIASES: Mapping[str, str] = {
    "--steps": "--num-inference-steps",
    "--guidance": "--guidance-scale",
}
"""Short names of the commands that sample; `train` has steps of its own."""
COLUMNS = (40, 80)
"""Of the help: in fewer it never ends, in more its options stand beside each other."""
CONFIG = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.FlagCreatePairsOff,
)


@dataclass(frozen=True, kw_only=True)
class SamplingRun(RunOptions):
    """`RunOptions` as they are told of commands that do not begin with an upscaling model."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the networks; auto takes the one that the hardware multiplies fastest."""


def parse(
    command: type[T],
    arguments: Sequence[str],
    *,
    name: str,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """Return a command's dataclass filled from flags; its fields' docstrings are the help.

    Args:
        command: a frozen dataclass; nested options are flattened.
        arguments: without the command's name.
        name: of the command.
        aliases: short names of flags.

    Raises:
        InputError: an unknown flag or a value that does not fit, in one line.
        SystemExit: with 0, after `--help` was printed.
    """
    expanded = [_expand(argument, aliases) for argument in arguments]
    said = io.StringIO()
    try:
        with (
            _fitting_columns() as columns,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            return tyro.cli(command, args=expanded, prog=f"legato {name}", config=CONFIG)
    except SystemExit as stop:
        if stop.code in (0, None):
            sys.stdout.write(tidied(said.getvalue(), columns))
            raise
        if refused := _refusal(stop):
            raise refused from None
        reason, fix = _reason(said.getvalue()), f"see legato {name} --help"
        if unknown := re.match(r"Unrecognized options: (-[\w-]+)", reason):
            reason = f"there is no option {unknown[1]}"
            if near := get_close_matches(unknown[1], [*_flags(command), *aliases], n=1):
                fix = f"did you mean {near[0]}? {fix}"
        raise InputError(" ".join(["legato", name, *arguments]), why=reason, fix=fix) from None


@contextlib.contextmanager
def _fitting_columns() -> Iterator[int]:
    """Within the block, the terminal has columns that suit the help; yield how many."""
    before = os.environ.get("COLUMNS")
    least, most = COLUMNS
    columns = min(max(shutil.get_terminal_size().columns, least), most)
    os.environ["COLUMNS"] = str(columns)
    try:
        yield columns
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _flags(command: type[object]) -> list[str]:
    """Return the names of the flags that a command's help tells."""
    said = io.StringIO()
    with _fitting_columns(), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(command, args=["--help"], config=CONFIG)
    return re.findall(r"--\w[\w-]*", said.getvalue())


def _expand(argument: str, aliases: Mapping[str, str]) -> str:
    flag, equals, value = argument.partition("=")
    return f"{aliases.get(flag, flag)}{equals}{value}"


def _refusal(stop: BaseException) -> InputError | None:
    """Return what options that were read say of themselves, where the parser stopped for that."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__context__
    return cause


def _reason(said: str) -> str:
    """Return the first paragraph of what the parser said, behind its title, on one line."""
    lines = [re.sub(r"^[\s│]+|[\s│]+$", "", line) for line in said.splitlines()]
    body: list[str] = []
    for line in lines[1:]:
        is_rule = not line.strip("-─╭╮╰╯ ")
        if is_rule and body:
            break
        if not is_rule:
            body.append(line)
    reason = re.sub(r"^Missing from legato [\w ]+:", "missing:", " ".join(body))
    reason = re.sub(r"\([^()]*'None'[^()]*\)", _choices, reason)
    return reason.rstrip(".") or "the flags cannot be understood"


def _choices(listed: re.Match[str]) -> str:
    """Return the choices that the parser lists, in order and without the one of no flag."""
    names = set(re.findall(r"'[^']*'", listed[0])) - {"'None'"}
    return f"({', '.join(sorted(names))})"
