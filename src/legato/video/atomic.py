"""Files that appear at their path complete or not at all."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import av.error

from legato.errors import InputError, LegatoError, ResourceError

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
LONGEST_NAME = 200  # bytes; file systems allow 255, and the temporary name is longer


def temporary_beside(path: Path) -> Path:
    """Return a hidden name in the same folder, of the same suffix, for this process alone.

    Raises:
        InputError: the folder does not exist or may not be written.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path}", why=f"no folder {folder}", fix="make the folder first")
    if not os.access(folder, os.W_OK):
        raise InputError(
            f"{path}", why=f"the folder {folder} may not be written", fix="choose another folder"
        )
    stem = path.stem
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        stem = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    _remove_leftovers(folder, stem, path.suffix)
    return folder / f".{stem}.{os.getpid()}.part{path.suffix}"


def _remove_leftovers(folder: Path, stem: str, suffix: str) -> None:
    """Remove what a killed process of ours left under a temporary name of the same target."""
    pattern = re.compile(rf"\.{re.escape(stem)}\.(\d+)\.part{re.escape(suffix)}")
    for file in folder.iterdir():
        match = pattern.fullmatch(file.name)
        if match and not _is_running(int(match[1])):
            remove(file)


def _is_running(process: int) -> bool:
    if process == os.getpid() or os.name == "nt":  # Windows has no harmless signal to ask with
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to someone else
        return True
    return True


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a finished file or folder to disk and rename it to its path, replacing what is there.

    Raises:
        ResourceError: the disk is full.
        InputError: the path may not be written.
    """
    with writing(path):
        if temporary.is_dir():
            for file in temporary.iterdir():
                _flush(file)
            if path.is_dir():
                shutil.rmtree(path)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.absolute().parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; what is there stays until it is replaced.

    Raises:
        ResourceError: the disk is full.
        InputError: the path may not be written.
    """
    temporary = temporary_beside(path)
    try:
        with writing(path):
            temporary.write_bytes(data)
        put_in_place(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate a failure to write into an error of ours that says what can be done.

    Raises:
        ResourceError: the disk or quota is full.
        InputError: the path may not be written, or the encoder refuses.
    """
    try:
        yield
    except LegatoError:
        raise
    except (OSError, av.error.FFmpegError) as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = said_bytes(shutil.disk_usage(path.absolute().parent).free)
            raise ResourceError(
                f"{path}", why=f"the disk is full ({free} free)", fix="free some space"
            ) from error
        if error.errno == errno.EINVAL and isinstance(error, av.error.FFmpegError):
            raise InputError(
                f"{path}",
                why=f"its container or codec refuses what it should hold ({error.strerror})",
                fix="name another kind of file, such as .mkv",
            ) from error
        raise InputError(
            f"{path}", why=f"it cannot be written ({error.strerror})", fix="choose another path"
        ) from error


def said_bytes(count: int) -> str:
    """Return a number of bytes as people say it: kB, MB or GB, in powers of 1000."""
    unit, name = next(((u, n) for u, n in UNITS if count >= u), UNITS[-1])
    return f"{count / unit:.{1 if count < 10 * unit else 0}f} {name}"


@contextlib.contextmanager
def making_folder(path: Path) -> Iterator[None]:
    """Make a folder and those above it; where the block fails, those of them that are empty go.

    Raises:
        InputError: it cannot be made.
    """
    whole = path.absolute()
    missing = [folder for folder in (whole, *whole.parents) if not folder.exists()]
    try:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # one that holds something ends it
            for folder in missing:
                folder.rmdir()
        raise


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle on a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
