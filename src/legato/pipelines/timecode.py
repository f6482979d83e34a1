"""Times as people type them: seconds, m:ss or h:mm:ss, kept exact."""

import re
from fractions import Fraction

from legato.errors import InputError

PATTERN = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
SECONDS_PER_MINUTE = 60


def parse_time(text: str) -> Fraction:
    """Return the seconds that `90`, `1:30`, `0:01:30` or `90.5` mean.

    Raises:
        InputError: the text is no time, or minutes or seconds pass 59 behind a colon.
    """
    match = PATTERN.fullmatch(text.strip())
    if match:
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        behind_colon = [minutes] if match[1] else []
        behind_colon += [seconds] if match[2] else []
        if all(part < SECONDS_PER_MINUTE for part in behind_colon):
            return (hours * SECONDS_PER_MINUTE + minutes) * SECONDS_PER_MINUTE + seconds
    raise InputError(
        f"time {text!r}", why="it is not a time", fix="use seconds or h:mm:ss, such as 90.5 or 1:30"
    )


def format_time(seconds: Fraction | float | int) -> str:
    """Return h:mm:ss, or m:ss below an hour, rounded to whole seconds."""
    whole = round(seconds)
    minutes, rest = divmod(whole, SECONDS_PER_MINUTE)
    hours, minutes = divmod(minutes, SECONDS_PER_MINUTE)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
