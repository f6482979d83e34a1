"""The sample aspect of a Matroska or WebM file, which FFmpeg's muxer takes from no packet.

The header gets the two elements DisplayWidth and DisplayHeight (RFC 9559, 5.1.4.1.28). They move
what lies before them into the padding that follows the file's index of elements (SeekHead), so
that nothing behind the track list moves.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

SEGMENT, SEEK_HEAD, VOID, TRACKS = 0x18538067, 0x114D9B74, 0xEC, 0x1654AE6B
TRACK_ENTRY, VIDEO, SEEK, SEEK_POSITION = 0xAE, 0xE0, 0x4DBB, 0x53AC
CHECKSUM, DISPLAY_UNIT = 0xBF, 0x54B2
DISPLAY_WIDTH, DISPLAY_HEIGHT = b"\x54\xb0", b"\x54\xba"
HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Element:
    """One EBML element: where its parts lie in the file."""

    id: int
    at: int
    size_at: int
    body: int
    size: int

    @property
    def end(self) -> int:
        return self.body + self.size


def set_sample_aspect(path: Path, aspect: Fraction, *, size: tuple[int, int]) -> bool:
    """Write the sample aspect of the first video track into a finished file's header.

    Returns whether that was possible: the header must be laid out as FFmpeg does without checksums.

    Args:
        path: a Matroska or WebM file.
        aspect: a pixel's width over its height.
        size: stored columns and rows.
    """
    with path.open("r+b") as file:
        header = bytearray(file.read(HEADER_BYTES))
        try:
            changed = _insert(header, _display_elements(aspect, size))
        except (IndexError, KeyError, StopIteration, OverflowError):
            return False
        file.seek(0)
        file.write(changed)
    return True


def display_size(aspect: Fraction, size: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest shown columns and rows of exactly that shape that hide no pixel."""
    shape = Fraction(size[0], size[1]) * aspect
    factor = max(math.ceil(size[0] / shape.numerator), math.ceil(size[1] / shape.denominator))
    return shape.numerator * factor, shape.denominator * factor


def _display_elements(aspect: Fraction, size: tuple[int, int]) -> bytes:
    width, height = (n.to_bytes(4, "big") for n in display_size(aspect, size))
    return DISPLAY_WIDTH + b"\x84" + width + DISPLAY_HEIGHT + b"\x84" + height


def _insert(header: bytearray, new: bytes) -> bytearray:
    segment = next(e for e in _elements(header, 0, len(header)) if e.id == SEGMENT)
    top: dict[int, _Element] = {}
    for element in _elements(header, segment.body, len(header)):
        top.setdefault(element.id, element)
        if element.id == TRACKS:
            break
    seek_head, void, tracks = top[SEEK_HEAD], top[VOID], top[TRACKS]
    if CHECKSUM in (header[tracks.body], header[seek_head.body]):
        raise KeyError(CHECKSUM)  # it would no longer be right
    if void.at != seek_head.end or tracks.end > len(header):
        raise KeyError(VOID)
    entry = next(e for e in _elements(header, tracks.body, tracks.end) if e.id == TRACK_ENTRY)
    video = next(e for e in _elements(header, entry.body, entry.end) if e.id == VIDEO)
    for unit in _elements(header, video.body, video.end):
        if unit.id == DISPLAY_UNIT:  # written as "unknown" (4); 0 says pixels
            header[unit.body : unit.end] = bytes(unit.size)
    start = stop = video.end
    for parent in (video, entry, tracks):
        body = header[parent.body : start] + new + header[stop : parent.end]
        new, start, stop = _with_body(header, parent, body), parent.at, parent.end
    grown = len(new) - (tracks.end - tracks.at)
    if void.size < grown:
        raise KeyError(VOID)
    padding = _with_body(header, void, bytes(void.size - grown))
    for moved in _seek_positions(header, seek_head, after=void.end - segment.body):
        position = int.from_bytes(header[moved.body : moved.end], "big")
        if position <= tracks.at - segment.body:
            header[moved.body : moved.end] = (position - grown).to_bytes(moved.size, "big")
    return header[: void.at] + padding + header[void.end : tracks.at] + new + header[tracks.end :]


def _seek_positions(header: bytearray, seek_head: _Element, *, after: int) -> list[_Element]:
    """Return the index's pointers to places at or behind one."""
    found = []
    for seek in _elements(header, seek_head.body, seek_head.end):
        if seek.id == SEEK:
            parts = {e.id: e for e in _elements(header, seek.body, seek.end)}
            pointer = parts[SEEK_POSITION]
            if int.from_bytes(header[pointer.body : pointer.end], "big") >= after:
                found.append(pointer)
    return found


def _elements(data: bytearray, start: int, end: int) -> Iterator[_Element]:
    at = start
    while at < end:
        id_length = _length(data[at])
        size_at = at + id_length
        size_length = _length(data[size_at])
        body = size_at + size_length
        size = int.from_bytes(data[size_at:body], "big") & ((1 << 7 * size_length) - 1)
        yield _Element(int.from_bytes(data[at:size_at], "big"), at, size_at, body, size)
        at = body + size


def _length(first: int) -> int:
    """Return how many bytes a number has, from its first one."""
    if not first:
        raise IndexError(first)
    return 9 - first.bit_length()


def _with_body(data: bytearray, element: _Element, body: bytes | bytearray) -> bytes:
    """Return an element with another body; its size takes as many bytes as before, or more."""
    length = element.body - element.size_at
    while len(body) > (1 << 7 * length) - 2:  # all ones mean "unknown"
        length += 1
    marked = len(body) | 1 << 7 * length
    return bytes(data[element.at : element.size_at]) + marked.to_bytes(length, "big") + body
