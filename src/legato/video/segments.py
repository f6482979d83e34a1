"""Reading back what `VideoWriter` wrote: packets or pictures with their exact ticks."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from av.container import InputContainer

from legato.errors import InputError
from legato.video.container import open_container
from legato.video.icc import PNG_SIGNATURE
from legato.video.probe import VideoFacts

SHIFT_KEY = "comment"  # the one tag that every container keeps
SHIFT_PREFIX = "pts_shift="


def segment_packets(segments: Sequence[Path], facts: VideoFacts) -> Iterator[tuple[int, Any]]:
    """Yield every video packet of the segments with its time in the source's ticks.

    Raises:
        InputError: the segments were coded with different settings and cannot be joined.
    """
    header: bytes | None = None
    for path in segments:
        with open_container(path) as container:
            stream = container.streams.video[0]
            extradata = stream.codec_context.extradata
            if header is not None and extradata != header:
                raise InputError(
                    f"{path}", why="it was coded with other settings", fix="start afresh"
                )
            header = extradata
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    yield _source_ticks(packet.pts, container, facts), packet


def count_frames(segment: Path) -> int:
    """Return how many whole frames a segment holds, without decoding them.

    Raises:
        DecodeError: it cannot be read.
    """
    if segment.is_dir():
        return sum(_is_whole_png(path.read_bytes()) for path in segment.glob("*.png"))
    with open_container(segment) as container:
        return sum(
            1
            for stream in container.streams.video[:1]
            for packet in container.demux(stream)
            if packet.size
        )


def first_pts(segment: Path, facts: VideoFacts) -> int:
    """Return the time of a segment's first frame in the source's ticks."""
    if segment.is_dir():
        return min(int(p.stem) for p in segment.glob("*.png"))
    return next(pts for pts, _ in segment_packets([segment], facts))


def _is_whole_png(data: bytes) -> bool:
    """Tell whether all of a picture is there, by the length and CRC-32 of its chunks."""
    kind, place, view = b"", len(PNG_SIGNATURE), memoryview(data)
    while data.startswith(PNG_SIGNATURE) and place < len(data):
        size = int.from_bytes(view[place : place + 4], "big")
        kind, end = bytes(view[place + 4 : place + 8]), place + 8 + size
        if view[end : end + 4] != zlib.crc32(view[place + 4 : end]).to_bytes(4, "big"):
            return False
        place = end + 4
    return kind == b"IEND"


def _source_ticks(pts: int, container: InputContainer, facts: VideoFacts) -> int:
    """Undo what writing did to a time: a container's own ticks, and a shift of negative ones."""
    note = container.metadata.get(SHIFT_KEY, container.metadata.get(SHIFT_KEY.upper(), ""))
    shift = int(note.removeprefix(SHIFT_PREFIX)) if note.startswith(SHIFT_PREFIX) else 0
    if container.format.name == "matroska,webm":
        return pts + shift
    base = container.streams.video[0].time_base
    assert base is not None
    ticks = pts * base / facts.time_base
    return round(ticks) + shift
