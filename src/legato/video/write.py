"""Frames to a codec: temporary file beside the target, then renamed into place."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from legato.video.frame import Alpha, Pixels
from legato.video.probe import VideoFacts

CodecName = Literal["auto", "x264", "x265", "av1", "vp9", "prores", "ffv1", "png", "gif"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecOptions:
    """How the output is coded."""

    codec: CodecName = "auto"
    """Video codec of the output; `auto` takes the container's usual one."""

    crf: int | None = None
    """Constant rate factor: lower is better and larger. Unset: near-transparent for the codec."""


def choose_codec(target: Path, options: CodecOptions, facts: VideoFacts) -> CodecOptions:
    """Return the options with `auto` replaced by the codec for the target's name.

    Raises:
        InputError: the container cannot hold the codec, or the name tells no container.
    """
    raise NotImplementedError


def segment_suffix(options: CodecOptions) -> str:
    """Return the suffix for a segment's file: a container with exact times; "" is a folder."""
    raise NotImplementedError


class VideoWriter:
    """Writes frames in presentation order; nothing is at `path` until `close` succeeded.

    A context manager: leaving the block normally closes, an exception discards.

    Args:
        path: a video file, or a folder for the codec `png`.
        size: width and height of every frame, kept exactly.
        time_base: seconds per tick of the `pts` given to `write`.
        options: a concrete codec (see `choose_codec`), or `auto` to go by the name of `path`.
        facts: the source's, for bit depth, colour tags, rate, aspect and rotation.

    Raises:
        InputError: the codec cannot hold such frames, or the folder cannot be written.
        ResourceError: the disk is full.
    """

    notices: list[str]
    """What could not be kept, such as opacity, as sentences for the user."""

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        time_base: Fraction,
        options: CodecOptions,
        facts: VideoFacts,
    ) -> None:
        raise NotImplementedError

    def write(self, pixels: Pixels, *, pts: int, alpha: Alpha | None = None) -> None:
        """Encode one frame; `pts` must be larger than the last one's."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish the file, flush it to disk and put it at its path."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove what was written; the path is left as it was."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard() if kind else self.close()
