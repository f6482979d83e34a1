"""The last steps of a job with a source: join what was made, check it, put it in place."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from legato.pipelines.events import Event, OnEvent, notice
from legato.pipelines.workfolder import WorkFolder
from legato.video.conservation import Conservation, verify
from legato.video.probe import VideoFacts
from legato.video.streams import JoinReport, join

Span = tuple[Fraction | None, Fraction | None]
"""Seconds of the stream's own clock that an output covers; None: to the source's end."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of a source's frames and streams."""

    streams: JoinReport
    kept: Conservation
    notices: list[str]
    """Sentences that the user was told."""

    @property
    def stream_fates(self) -> dict[str, list[str]]:
        """What was `kept`, `transcoded` and `dropped`."""
        streams = self.streams
        return {
            "kept": streams.kept,
            "transcoded": streams.transcoded,
            "dropped": streams.dropped,
        }


def deliver(
    segments: Sequence[Path],
    target: Path,
    *,
    facts: VideoFacts,
    scale: Fraction | None,
    span: Span,
    on_event: OnEvent,
) -> Delivery:
    """Join finished segments with the source's other streams, check, and put all in place.

    Args:
        segments: files of consecutive frames that make the output, in its work folder; they are
            joined beside them.
        target: the output.
        facts: of the source.
        scale: output rows per input row, for the check; None: not compared.
        span: what the segments cover.
        on_event: told of both steps and of notices.
    """
    joined = segments[0].with_name(f"joined{target.suffix}")
    on_event(Event(stage="join", message=target.name))
    start, end = span
    streams = join(segments, joined, source=facts.path, facts=facts, start=start, end=end)
    on_event(Event(stage="verify", message=target.name))
    kept = verify(facts.path, joined, scale=scale, start=start, end=end)
    sentences = [*streams.notices, *kept.differences]
    notices = [notice(on_event, sentence) for sentence in sentences]
    WorkFolder(target).deliver(joined)
    return Delivery(streams=streams, kept=kept, notices=notices)


def range_of(span: Span) -> dict[str, str] | None:
    """Return a span as a report names it; None: the whole source."""
    named = {"start": span[0], "end": span[1]}
    chosen = {name: str(value) for name, value in named.items() if value is not None}
    return chosen or None
