"""SMPTE timecode (ST 12-1): the address h:m:s:f of a frame, as editors note it.

At 30000/1001 frames per second and its multiples, labels may be left out at most minutes' starts
(drop-frame, written h:m:s;f), so that they follow the clock.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

_DROPS_AT = Fraction(30_000, 1001)
_LABELS_PER_DAY = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Timecode:
    """A frame's address."""

    number: int
    """Frames since 00:00:00:00."""
    rate: int
    """Frames per labelled second: the frame rate, rounded."""
    drops: bool
    """Whether it is drop-frame."""

    @classmethod
    def parse(cls, text: str, frame_rate: Fraction) -> "Timecode | None":
        """Return what a text such as 01:00:00:00 names; None: nothing at this frame rate."""
        found = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d+)", text.strip())
        rate, drops = round(frame_rate), found is not None and found[4] != ":"
        if found is None or (drops and (frame_rate / _DROPS_AT).denominator != 1):
            return None
        hours, minutes, seconds, frame = (int(found[k]) for k in (1, 2, 3, 5))
        minutes += 60 * hours
        if hours > 23 or minutes - 60 * hours > 59 or seconds > 59 or frame >= rate:
            return None
        dropped = rate // 15 if drops else 0
        if minutes % 10 and not seconds and frame < dropped:
            return None  # a label that is left out
        labels = (60 * minutes + seconds) * rate + frame
        number = labels - dropped * (minutes - minutes // 10)
        return cls(number=number, rate=rate, drops=drops)

    def later(self, frames: int) -> "Timecode":
        """Return the address so many frames behind; a day begins anew."""
        day = _LABELS_PER_DAY * self.rate
        if self.drops:
            day -= self.rate // 15 * (24 * 60 - 24 * 6)
        return replace(self, number=(self.number + frames) % day)

    def __str__(self) -> str:
        labels = self.number
        if self.drops:
            dropped = self.rate // 15
            minute = 60 * self.rate - dropped
            tens, rest = divmod(labels, 10 * minute + dropped)
            labels += dropped * (9 * tens + max(rest - dropped, 0) // minute)
        seconds, frame = divmod(labels, self.rate)
        mark = ";" if self.drops else ":"
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{frame:02}"
