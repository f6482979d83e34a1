"""One job per output: a lock that dies with its process."""

import os
from pathlib import Path
from types import TracebackType

from legato.errors import ResourceError

try:
    import fcntl
except ImportError:  # not on Windows: there the pid in the file decides
    fcntl = None  # type: ignore[assignment]


class Lock:
    """Holds a lock file for as long as the block runs; a killed owner's lock is free again.

    The operating system drops the lock with the process; the pid in the file is for people, and
    decides only where there are no file locks.

    Args:
        path: of the lock file, in an existing folder.

    Raises:
        ResourceError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> "Lock":
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            if not _take(descriptor, owner):
                os.close(descriptor)
                raise ResourceError(
                    f"{self.path.parent}: another run (process {owner or 'unknown'}) works on it",
                    why="two jobs must not write one output",
                    fix="wait for it, end it, or choose another output",
                )
            if _is_file_of(descriptor, self.path):
                break
            os.close(descriptor)  # the owner removed the file while we were taking it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
        self._descriptor = descriptor
        return self

    @property
    def is_held(self) -> bool:
        """Whether the file is still ours: after its folder went, another run may have made anew."""
        return self._descriptor is not None and _is_file_of(self._descriptor, self.path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            if self.is_held:
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def _take(descriptor: int, owner: str) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: the number of the process must do
            pass
        else:
            return True
    return not (owner.isdecimal() and int(owner) != os.getpid() and _is_alive(int(owner)))


def _is_file_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
