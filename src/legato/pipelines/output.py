"""Whether an output path can be used, and what it will take on the disk; asked before any work."""

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from legato.errors import InputError, LegatoError, ResourceError
from legato.pipelines.workfolder import WorkFolder
from legato.video.atomic import said_bytes, temporary_beside
from legato.video.codecs import CodecOptions
from legato.video.probe import VideoFacts

LOSSY_BYTES_PER_PIXEL = 0.06  # near-transparent H.264 of enlarged video; others need less
INTERMEDIATE_BYTES_PER_PIXEL = 0.6  # ProRes HQ
LOSSLESS_BYTES_PER_SAMPLE = 0.6  # of a byte per sample
LONGEST_REPORT_NAME = 250  # bytes; file systems allow 255, and the partial file's is longer
COPIES = 2  # finished segments, and the file that they are joined to


def require_target(source: Path, target: Path, *, is_folder: bool) -> None:
    """Refuse an output path that would destroy something or cannot hold the output.

    Args:
        source: what is read.
        target: what is to be written.
        is_folder: whether the output is a folder of images.

    Raises:
        InputError: see the message.
    """
    require_no_input(target, [source])
    if source.is_dir() and target.absolute().parent.resolve() == source.resolve():
        raise InputError(
            f"{target} lies in the input folder",
            why="it would become part of the input",
            fix="choose an output outside it",
        )
    require_replaceable(target, is_folder=is_folder)


def require_no_input(target: Path, read: Iterable[Path]) -> None:
    """Refuse an output path where something lies that the job reads.

    Raises:
        InputError: it is one of the paths in `read`, or a link to it.
    """
    for path in (path.expanduser() for path in read):
        if target.exists() and path.exists() and target.samefile(path):
            raise InputError(
                f"{target} is both input and output",
                why="the input is never changed",
                fix="choose another output",
            )


def preview_path(target: Path) -> Path:
    """Return where the preview of a job with this output lies: it never replaces the output.

    Raises:
        InputError: the output has no name.
    """
    _require_name(target)
    return target.with_stem(f"{target.stem}_preview")


def picture_path(target: Path) -> Path:
    """Return where a preview's side-by-side picture lies."""
    return target.with_name(f"{target.name}.preview.png")


def require_replaceable(target: Path, *, is_folder: bool) -> None:
    """Refuse an output path where something stands that is not to be replaced.

    Raises:
        InputError: see the message.
    """
    if not target.absolute().parent.is_dir():
        raise InputError(
            f"{target.absolute().parent}: no such folder",
            why=f"{target.name} goes there",
            fix="make it first",
        )
    _require_name(target)
    require_no_loop(target)
    if why := _refusal(target):
        raise InputError(f"{target}", why=why, fix="choose another folder for the output")
    if not target.exists():
        return
    if is_folder:
        is_ours = WorkFolder(target).has_delivered
        if not target.is_dir() or (any(target.iterdir()) and not is_ours):
            what = "is not empty" if target.is_dir() else "is a file"
            raise InputError(
                f"{target} {what}",
                why="the output is a folder of images and replaces nothing",
                fix="name a new folder",
            )
    elif target.is_dir():
        raise InputError(
            f"{target} is a folder",
            why="the output is a file",
            fix=f"name a file, such as {target / 'out.mp4'}",
        )
    elif not target.is_file():
        raise InputError(
            f"{target} is neither a file nor a folder",
            why="the output is put in place by renaming, which would replace it",
            fix="name a file",
        )


def _require_name(target: Path) -> None:
    if not target.name:
        raise InputError(
            f"{target} has no name", why="the report is named after the output", fix="give its name"
        )


def require_no_loop(path: Path) -> None:
    """Refuse a link that leads to itself: nothing can be read or written there.

    Raises:
        InputError: the path is one.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(
                f"{path}", why="it is a link that leads to itself", fix="remove it"
            ) from error


def require_report(path: Path, target: Path) -> None:
    """Refuse a path that cannot take the report of an output, before any work, not behind it.

    Raises:
        InputError: see the message.
    """
    require_no_loop(path)
    why = ""
    if len(os.fsencode(path.name)) > LONGEST_REPORT_NAME:
        why = f"the name is longer than {LONGEST_REPORT_NAME} bytes"
    elif path.resolve() == target.resolve():
        why = "it is the output"
    elif path.is_file() and not _may_be_report(path):
        why = "something else than a report is there"
    elif path.is_dir():
        why = "it is a folder"
    elif not path.absolute().parent.is_dir():
        why = "there is no such folder"
    else:
        why = _refusal(path)
    if why:
        raise InputError(
            f"the report cannot be written to {path}", why=why, fix="name a file with --report"
        )


def _refusal(path: Path) -> str:
    """Return why no file can be made in the folder of a path; empty: one can."""
    try:
        probe = temporary_beside(path)
        probe.touch()
        probe.unlink()
    except LegatoError as error:
        return error.why
    except OSError as error:
        return f"its folder takes no file ({error.strerror})"
    return ""


def _may_be_report(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) in (b"", b"{")


def bytes_on_disk(
    facts: VideoFacts, codec: CodecOptions, *, size: tuple[int, int], num_frames: int
) -> int:
    """Estimate the free space that a job needs, finished segments and joined file together."""
    pixels = size[0] * size[1] * num_frames
    if codec.codec in ("png", "ffv1", "gif"):
        samples = 3 + facts.has_alpha
        per_pixel = LOSSLESS_BYTES_PER_SAMPLE * samples * (1 + (facts.bit_depth > 8))
    elif codec.codec == "prores":
        per_pixel = INTERMEDIATE_BYTES_PER_PIXEL
    else:
        per_pixel = LOSSY_BYTES_PER_PIXEL
    other_streams = facts.path.stat().st_size if facts.path.is_file() else 0
    return int(COPIES * pixels * per_pixel) + other_streams


def lacking_space(folder: Path, needed: int) -> list[str]:
    """Return what `require_space` would refuse as a sentence for a plan, if it would."""
    try:
        require_space(folder, needed)
    except ResourceError as error:
        return [str(error)]
    return []


def require_space(folder: Path, needed: int) -> None:
    """Refuse a job that the disk cannot hold.

    Raises:
        ResourceError: fewer bytes than needed are free; says how many.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"{folder}: about {said_bytes(needed)} of disk space needed",
            why=f"{said_bytes(free)} are free",
            fix="free some space or choose another disk for the output",
        )
