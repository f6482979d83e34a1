"""Every error Legato raises on purpose.

LegatoError
├── InputError       the caller's file, prompt or option is unusable        (exit 2)
│   └── DecodeError  a container or a stream cannot be read
├── ModelError       weights are missing, mismatched or damaged             (exit 3)
├── ResourceError    not enough memory, disk or device capability           (exit 4)
└── Interrupted      the user or the system asked to stop; work was kept    (exit 130)
"""


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
