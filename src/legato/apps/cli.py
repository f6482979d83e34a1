"""The command line: one subcommand per task, errors as one line and an exit code.

Exit codes: 0 done, 1 a bug of ours or a difference found, 2 bad input, 3 bad model, 4 not enough
memory or disk, 130 interrupted.
"""

import errno
import importlib
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches

from legato import __version__
from legato.apps.interrupt import handled_by
from legato.errors import (
    InputError,
    Interrupted,
    LegatoError,
    ModelError,
    ResourceError,
    refused_by_system,
)

COMMANDS = {
    "upscale": "restore and enlarge a video, a folder of images or of videos, or an image",
    "generate": "make a video from words, from a first frame, or from nothing",
    "translate": "give a video another look, as a prompt says, steadily and without training",
    "plan": "say what upscaling would need: frames, shots, memory, disk and time",
    "verify": "check that everything of the input is in the output",
    "compare": "show two videos side by side, and one row of their pixels over time",
    "evaluate": "judge clips against references, or alone: tables and a page with pictures",
    "degrade": "damage clean clips the way old and compressed videos are damaged, repeatably",
    "web": "serve a page with upscale, generate and translate for a browser",
    "doctor": "say what is installed, what is missing, and how to mend it",
    "models": "list, inspect, download or convert models",
    "train": "train a model on a folder of videos and images",
}
EXIT_CODES: tuple[tuple[type[LegatoError], int], ...] = (
    (InputError, 2),
    (ModelError, 3),
    (ResourceError, 4),
    (Interrupted, 130),
)
BUG, FULL, INTERRUPTED, BROKEN_PIPE = 1, 4, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; results go to stdout, all else to stderr."""
    sys.stdout = sys.stdout or io.StringIO()  # None where the descriptor is closed
    sys.stderr = sys.stderr or io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot show is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    logging.basicConfig(level=logging.DEBUG if debug else logging.CRITICAL, stream=sys.stderr)
    try:
        with handled_by(signal.default_int_handler):
            code = _run(given)
            sys.stdout.flush()
            return code
    except LegatoError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
        return exit_code(error)
    except KeyboardInterrupt:
        _complain("interrupted: repeat the command")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left
        _give_up_stdout()
        return BROKEN_PIPE
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError):  # wherever it was met, before or in the work
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
                _give_up_stdout()
                _complain(f"{error.strerror}: what is printed cannot be written; free some space")
                return FULL
            if refused := refused_by_system(error, error):
                _complain(str(refused))
                return exit_code(refused)
        # the last line of defence: a bug, said in one line
        _complain(f"a bug in legato: {type(error).__name__}: {error} (--debug shows where)")
        return BUG


def exit_code(error: LegatoError) -> int:
    """Return the exit code of an error's kind."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), BUG)


def _give_up_stdout() -> None:
    """Let what is still buffered go nowhere, else Python complains at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0 if given else 2
    if given[0] in ("--version", "-V", "version"):
        sys.stdout.write(f"legato {__version__}\n")
        return 0
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        raise InputError(
            f"command {name!r}",
            why="there is no such command",
            fix=f"did you mean {near[0]}?" if near else f"use one of {', '.join(COMMANDS)}",
        )
    module = importlib.import_module(f"legato.apps.{name}")
    code: int = module.run(rest)
    return code


def overview() -> str:
    """Return the help of the program as a whole."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return (
        f"legato {__version__}: temporally consistent video upscaling, generation, translation\n\n"
        "usage: legato COMMAND ...    (legato COMMAND --help tells its flags)\n\n"
        + "\n".join(lines)
        + "\n\n  --debug  shows where an error came from\n"
    )


def _complain(text: str) -> None:
    line = " ".join(text.split())
    encoding = sys.stderr.encoding or "ascii"
    safe = line.encode(encoding, "backslashreplace").decode(encoding)
    sys.stderr.write(f"error: {safe}\n")
