"""Every error Legato raises on purpose.

LegatoError
├── InputError       the caller's file, prompt or option is unusable        (exit 2)
│   └── DecodeError  a container or a stream cannot be read
├── ModelError       weights are missing, mismatched or damaged             (exit 3)
├── ResourceError    not enough memory, disk or device capability           (exit 4)
└── Interrupted      the user or the system asked to stop; work was kept    (exit 130)
"""

import errno
import re
from collections.abc import Callable, Mapping
from functools import partial


class LegatoError(Exception):
    """Base class: catch this to catch everything Legato raises on purpose.

    Args:
        what: what went wrong and where, with the offending value.
        why: what was expected, or what was found.
        fix: one thing the reader can do now.
    """

    def __init__(self, what: str, *, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why}; {fix}")
        self.what, self.why, self.fix = what, why, fix

    def __reduce__(self) -> tuple[Callable[[str], "LegatoError"], tuple[str]]:
        """Make an error that comes from another process the one that it was there."""
        return partial(type(self), why=self.why, fix=self.fix), (self.what,)


class InputError(LegatoError, ValueError):
    """The caller's file, prompt or option is unusable."""


class DecodeError(InputError):
    """A container or a stream cannot be read."""


class ModelError(LegatoError):
    """Weights are missing, mismatched, damaged or of the wrong architecture."""


class ResourceError(LegatoError):
    """The machine lacks the memory, disk or device that this needs."""


class Interrupted(LegatoError):  # noqa: N818 - a request, not a fault
    """The user or the system asked to stop; finished segments were kept."""


NO_ACCESS = (
    InputError,
    "this user may not read or write it",
    "change its permissions, or name another path",
)
GONE = (ResourceError, "its disk is gone", "connect it again")
MANY_FILES = (ResourceError, "too many files are open", "close some, or raise the limit (ulimit)")
REFUSALS: Mapping[int, tuple[type[LegatoError], str, str]] = {
    errno.EACCES: NO_ACCESS,
    errno.EPERM: NO_ACCESS,
    errno.EROFS: (
        InputError,
        "its disk is read-only",
        "mount it for writing, or name another path",
    ),
    errno.ENAMETOOLONG: (InputError, "the name is too long for its disk", "use a shorter one"),
    errno.ENOSPC: (ResourceError, "the disk is full", "free some space"),
    errno.EDQUOT: (ResourceError, "the quota of its disk is used up", "free some space"),
    errno.EFBIG: (ResourceError, "its disk takes no file of that size", "use another disk"),
    errno.EIO: (ResourceError, "its disk cannot be read or written", "check the disk"),
    errno.ENODEV: GONE,
    errno.ENXIO: GONE,
    errno.ESTALE: GONE,
    errno.EMFILE: MANY_FILES,
    errno.ENFILE: MANY_FILES,
}
"""What the system refuses for reasons outside the program, by number: kind, why and fix."""


def refused_by_system(error: OSError, where: object, *, then: str = "") -> LegatoError | None:
    """Return an error of the system in our words; None for one that may be a bug.

    Args:
        error: of the system.
        where: what was read or written, where the error does not name it.
        then: what to do once it is mended, behind the fix.
    """
    refusal = REFUSALS.get(error.errno or 0)
    if refusal is None:
        return None
    kind, why, fix = refusal
    return kind(f"{error.filename or where}", why=why, fix=f"{fix}{then}")


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return so many of a thing in words, such as 1 frame, 2 frames."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def first_sentence(error: BaseException, *, longest: int = 200) -> str:
    """Return what a library says first, on one line without its full stop; its kind if nothing.

    Args:
        error: of the library.
        longest: characters; what is longer ends behind a word, with dots.
    """
    said = re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(str(error).split()), maxsplit=1)[0]
    if len(said) > longest:
        return f"{said[:longest].rsplit(' ', 1)[0]} ..."
    return said.rstrip(".") or type(error).__name__
