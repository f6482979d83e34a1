"""Frames of a video, a folder of images or an image, streamed in presentation order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from legato.video.frame import Frame
from legato.video.probe import VideoFacts


@dataclass(slots=True, kw_only=True)
class ReadReport:
    """What had to be mended while reading; filled in as frames are read."""

    num_frames: int = 0
    num_repeated: int = 0
    """Frames that could not be decoded and were replaced by the last good one."""
    num_rescaled: int = 0
    """Frames of another size than the first, scaled to it."""
    num_retimed: int = 0
    """Frames whose presentation time was missing, doubled or went backwards."""

    def notices(self, facts: VideoFacts) -> list[str]:
        """Return one sentence for each kind of damage found."""
        raise NotImplementedError


def read_frames(
    path: Path,
    *,
    facts: VideoFacts | None = None,
    start_pts: int | None = None,
    report: ReadReport | None = None,
) -> Iterator[Frame]:
    """Yield every frame in presentation order; never more than a few are in memory.

    Interlaced material is deinterlaced (bwdif, as many frames out as in). Frames that cannot be
    decoded are replaced by the last good one (`repeated=True`).

    Args:
        path: a video, an image or a folder of images.
        facts: what `probe(path)` returned, to save probing again.
        start_pts: yield only frames with `pts >= start_pts`, the same bit for bit as when read
            from the start.
        report: filled with what had to be mended.

    Raises:
        DecodeError: there is no frame to be had.
    """
    raise NotImplementedError
