"""Subtitles that overlap in time laid out as cues that do not, which is all that MP4 can hold."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

LONG_AGO = -(1 << 62)  # before any time that a container holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """Lines of text shown from `begin` until just before `end`, in milliseconds."""

    begin: int
    end: int
    lines: tuple[str, ...]


class OneAtATime:
    """Lays cues one after another; where several are active, one shows the lines of all of them.

    Cues come in order of their beginnings. Of one that comes late, what lies before the beginning
    of those that came earlier is lost.
    """

    def __init__(self) -> None:
        self._active: list[Cue] = []
        self._given = LONG_AGO

    def add(self, cue: Cue) -> Iterator[Cue]:
        """Take one cue, and yield what is shown before it begins."""
        yield from self._until(cue.begin)
        self._active.append(replace(cue, begin=max(cue.begin, self._given)))

    def finish(self) -> Iterator[Cue]:
        """Yield the rest."""
        if self._active:
            yield from self._until(max(cue.end for cue in self._active))

    def _until(self, time: int) -> Iterator[Cue]:
        """Yield what is shown before a moment, cut where the lines change."""
        moments = {time}.union(*((cue.begin, cue.end) for cue in self._active))
        cuts = sorted(moment for moment in moments if moment <= time)
        for begin, end in pairwise(cuts):
            shown = [c for c in self._active if c.begin <= begin and end <= c.end]
            if shown:
                lines = tuple(line for cue in shown for line in cue.lines)
                yield Cue(begin=begin, end=end, lines=lines)
        self._given = max(self._given, time)
        left = (cue for cue in self._active if cue.end > self._given)
        self._active = [replace(cue, begin=max(cue.begin, self._given)) for cue in left]
