"""Opening a file by its content, and choosing the stream that a player would show."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from legato.errors import DecodeError

NOT_VIDEO = frozenset({"tty", "lavfi", "concat", "ffmetadata", "bin", "xbin", "adf", "idf"})
STILL_BRANDS = frozenset({"avif", "heic", "heix", "mif1"})
OPEN_OPTIONS = {"protocol_whitelist": "file", "pattern_type": "none"}
IMAGE_SUFFIXES = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pnm",
        ".tga",
        ".exr",
        ".dpx",
        ".jp2",
        ".avif",
    ]
)


@contextlib.contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """Open a file for reading by content, without network access or name patterns.

    Raises:
        DecodeError: the content is not that of any container.
    """
    try:
        container = av.open(
            f"file:{os.path.abspath(path)}",  # noqa: PTH100  (resolve() would follow links)
            container_options=dict(OPEN_OPTIONS),
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError, ValueError, EOFError) as error:
        raise _cannot_open(path, error) from error
    with container:
        if container.format.name in NOT_VIDEO:
            raise DecodeError(
                f"{path}", why="it holds text or data, no video", fix="give a video or an image"
            )
        if container.format.name == "webp_pipe" and _is_animated_webp(path):
            raise DecodeError(
                f"{path}",
                why="an animated WebP, which FFmpeg cannot decode",
                fix="convert it to MP4, GIF or a folder of PNG first",
            )
        yield container


def choose_stream(path: Path, container: InputContainer) -> VideoStream:
    """Return the video stream that a player would show: the default one, else the largest.

    Raises:
        DecodeError: there is none, as cover art does not count, or each is but a tile of a picture.
    """
    tiles = (s for s in container.streams.video if s.disposition & Disposition.dependent)
    if has_still_brand(container) and any(tiles):
        raise DecodeError(
            f"{path}",
            why="its picture is stored in tiles, which cannot be joined here",
            fix="save it as PNG or JPEG",
        )
    found = [f"{s.type} ({codec_name(s)})" for s in container.streams]
    videos = [s for s in container.streams.video if not is_cover_art(s) and s.codec_context]
    if not videos:
        if not found:
            why = "the container is empty: it has no stream and no frame"
        else:
            why = f"no video stream, only {', '.join(found)}"
            if any(is_cover_art(s) for s in container.streams.video):
                why += " (the picture is cover art)"
        raise DecodeError(f"{path}", why=why, fix="give a file that holds video")
    return max(
        videos,
        key=lambda s: (
            bool(s.disposition & Disposition.default),
            s.width * s.height,
            -s.index,
        ),
    )


def has_still_brand(container: InputContainer) -> bool:
    """Tell whether a file is an image in MP4's boxes: HEIC or AVIF."""
    return container.metadata.get("major_brand", "") in STILL_BRANDS


def is_cover_art(stream: Stream) -> bool:
    """Tell whether a stream is a picture attached to sound rather than video."""
    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    return stream.type == "video" and bool(stream.disposition & cover)


def is_chapter_track(stream: Stream) -> bool:
    """Tell whether a stream is only MP4's way to store chapters, which are read apart."""
    is_text = stream.type == "data" and codec_name(stream) == "bin_data"
    return is_text and bool(stream.container.chapters())


def timecode_text(container: InputContainer, stream: VideoStream) -> str:
    """Return the timecode that a file states for its picture; empty: none."""
    stated = container.metadata | stream.metadata
    return {key.lower(): value for key, value in stated.items()}.get("timecode", "")


def is_timecode_track(stream: Stream) -> bool:
    """Tell whether a stream is only MP4's way to store a timecode, which is read apart."""
    return stream.type == "data" and "timecode" in stream.metadata


def holds_alpha(stream: VideoStream) -> bool:
    """Tell whether a WebM or Matroska stream keeps opacity beside its pictures."""
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    return tags.get("alpha_mode") == "1"


def codec_name(stream: Stream) -> str:
    """Return the name of a stream's codec, or of its attached file's type."""
    if stream.type == "attachment":
        return str(stream.metadata.get("mimetype", "file"))
    if stream.codec_context is None:
        return str(getattr(stream, "name", None) or "unknown")
    return str(stream.codec_context.codec.canonical_name)


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return a folder's image files in natural order; other files and hidden ones are left out."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return tuple(sorted((p for p in files if not p.name.startswith(".")), key=natural_key))


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that orders `2.png` before `10.png`."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p.casefold()) for p in parts]


def _cannot_open(path: Path, error: Exception) -> DecodeError:
    if isinstance(error, PermissionError):
        return DecodeError(f"{path}", why="it may not be read", fix="change its permissions")
    with path.open("rb") as file:
        head = file.read(4096)
    size = path.stat().st_size
    if not size:
        return DecodeError(f"{path}", why="the file is empty (0 bytes)", fix="copy it again")
    if head[4:8] == b"ftyp" and not _has_box(path, b"moov"):
        return DecodeError(
            f"{path}",
            why="a truncated MP4: its index (the moov box) is missing",
            fix="copy the whole file again, or mend it with a tool such as untrunc",
        )
    if b"\0" not in head and _is_text(head):
        return DecodeError(f"{path}", why="it is a text file", fix="give a video or an image")
    return DecodeError(
        f"{path}",
        why=f"no known video or image format ({size} bytes; {type(error).__name__})",
        fix="check that it plays, or convert it to MP4 first",
    )


def _is_animated_webp(path: Path) -> bool:
    """Tell whether the flags of a WebP, in its first chunk, tell of an animation."""
    with path.open("rb") as file:
        head = file.read(21)
    return head[12:16] == b"VP8X" and bool(head[20] & 2)


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # only the last letter was cut
    return True


def _has_box(path: Path, name: bytes) -> bool:
    """Walk the top-level boxes of an MP4 and tell whether one has this name."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if header[4:8] == name:
                return at + length <= size
            if length < 8:
                return False
            at += length
    return False
