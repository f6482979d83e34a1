"""Which part of a video a job takes."""

from dataclasses import dataclass
from fractions import Fraction

from legato.errors import InputError
from legato.options import require_types
from legato.pipelines.timecode import parse_time


@dataclass(frozen=True, kw_only=True)
class TimeRange:
    """From when until when; part of a job's options.

    Raises:
        InputError: a time cannot be read, or the range ends before it begins.
    """

    start: str | None = None
    """Begin at this time after the first frame: seconds or h:mm:ss."""

    end: str | None = None
    """Stop before this time after the first frame: seconds or h:mm:ss."""

    def __post_init__(self) -> None:
        require_types(self)
        start, end = self.start_seconds or Fraction(0), self.end_seconds
        if end is not None and end <= start:
            raise InputError(
                f"start={self.start or 0} and end={self.end}",
                why="the range ends before it begins",
                fix="choose an end after the start",
            )

    @property
    def start_seconds(self) -> Fraction | None:
        """Seconds after the first frame where the range begins."""
        return None if self.start is None else parse_time(self.start)

    @property
    def end_seconds(self) -> Fraction | None:
        """Seconds after the first frame before which the range ends."""
        return None if self.end is None else parse_time(self.end)
