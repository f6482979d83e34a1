"""Joining finished segments and carrying sound, subtitles, chapters and tags across."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from legato.video.probe import VideoFacts


@dataclass(slots=True, kw_only=True)
class JoinReport:
    """What became of the source's streams."""

    num_frames: int = 0
    kept: list[str] = field(default_factory=list)
    """Streams copied as they are."""
    transcoded: list[str] = field(default_factory=list)
    """Streams that the container holds only in another codec."""
    dropped: list[str] = field(default_factory=list)
    """Streams that the container cannot hold at all."""
    notices: list[str] = field(default_factory=list)
    """The same as sentences for the user, and other losses."""


def join(
    segments: Sequence[Path],
    target: Path,
    *,
    source: Path,
    facts: VideoFacts,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> JoinReport:
    """Put finished segments and the source's other streams into one file at `target`.

    Video packets are copied in order with the times they were written with (absolute ticks of the
    source). Nothing is at `target` until it is complete and flushed to disk.

    Args:
        segments: files (or folders of PNG) from `VideoWriter`, in order.
        target: the file or folder to make.
        source: the input whose other streams, chapters, attachments and tags are carried over.
        facts: the source's.
        start: only frames with `start <= time < end` (source seconds) were processed: other
            streams are cut to that range, and all is shifted so that the first frame is at 0.
        end: see `start`.

    Raises:
        InputError: the container cannot hold the video codec.
        ResourceError: the disk is full.
    """
    raise NotImplementedError
