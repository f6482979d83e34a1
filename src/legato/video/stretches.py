"""Sound and other streams kept beside the picture where a file's clock falls back.

Recordings put behind one another (`cat a.ts b.ts`) start anew midway. `clock.mend_times` moves
the pictures of each such stretch to follow on; here the other streams' packets move by as much.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.stream import Stream

from legato.video.clock import LONGEST_SLIP
from legato.video.container import open_container
from legato.video.decode import nominal_ticks, read_packets
from legato.video.probe import VideoFacts


class PictureClock:
    """How far the pictures' packets have come, in the order of the file."""

    def __init__(self, facts: VideoFacts) -> None:
        self.time_base = facts.time_base
        self.nominal = nominal_ticks(facts)
        self.longest_slip = round(LONGEST_SLIP / facts.time_base)
        self.offset = 0
        self.latest: int | None = None
        self.decoded: int | None = None

    @property
    def seconds(self) -> Fraction | None:
        """The latest time after mending; None before the first packet."""
        return None if self.latest is None else (self.latest + self.offset) * self.time_base

    def follow(self, packet: Any) -> bool:  # noqa: ANN401
        """Go on to a packet, and tell whether it starts a new stretch."""
        if packet.pts is None or packet.dts is None:
            return False
        starts = self.decoded is not None and packet.dts < self.decoded - self.longest_slip
        if self.latest is not None and starts:
            self.offset += self.latest + self.nominal - packet.pts
            self.latest = packet.pts
        self.latest = packet.pts if self.latest is None else max(self.latest, packet.pts)
        self.decoded = packet.dts
        return starts


def stretch_offsets(facts: VideoFacts) -> list[Fraction]:
    """Return by how many seconds the pictures of each stretch are moved: 0 first, then more."""
    clock, offsets = PictureClock(facts), [Fraction(0)]
    with open_container(facts.path) as container:
        for packet in read_packets(container, container.streams[facts.stream_index]):
            if packet is not None and clock.follow(packet):
                offsets.append(clock.offset * facts.time_base)
    return offsets


def packets_in_step(
    container: InputContainer, streams: Sequence[Stream], facts: VideoFacts
) -> Iterator[Any]:
    """Yield the packets of streams beside the picture, moved as the pictures of their stretch are.

    Args:
        container: an open file; it is read to its end.
        streams: those of its streams to yield; not the picture's.
        facts: the file's.
    """
    offsets, clock, num_started = stretch_offsets(facts), PictureClock(facts), 1
    places = {stream.index: _Place(offsets) for stream in streams}
    for packet in read_packets(container, container.streams[facts.stream_index], *streams):
        if packet is None:
            continue
        if packet.stream.index == facts.stream_index:
            num_started += clock.follow(packet)
            continue
        place = places[packet.stream.index]
        place.follow(packet, clock.seconds, num_started)
        move(packet, offsets[place.stretch])
        yield packet


@dataclass(slots=True)
class _Place:
    """Where in the file a stream beside the picture has come to."""

    offsets: Sequence[Fraction]
    stretch: int = 0
    last: Fraction | None = None
    """Its last time, as the file has it."""

    def follow(self, packet: Any, now: Fraction | None, num_started: int) -> None:  # noqa: ANN401
        """Go on to a packet, and to a later stretch where that brings it back into step.

        Sound that falls back is to follow on, which may be a little before the pictures do; they
        tell where subtitles belong, which are few, and sound behind a gap.

        Args:
            packet: the stream's next one.
            now: the time of the pictures.
            num_started: stretches that the pictures have begun.
        """
        ticks = packet.pts if packet.dts is None else packet.dts
        if ticks is None or now is None:
            return
        time, last = ticks * packet.time_base, self.last
        goal, num_open, self.last = now, num_started, time
        if last is not None and packet.stream.type != "subtitle":
            if last <= time <= last + LONGEST_SLIP:
                return
            if time < last - LONGEST_SLIP:
                goal, num_open = last + self.offsets[self.stretch], num_started + 1
        if abs(time + self.offsets[self.stretch] - goal) > LONGEST_SLIP:
            self.stretch = min(
                range(self.stretch, min(num_open, len(self.offsets))),
                key=lambda index: abs(time + self.offsets[index] - goal),
                default=self.stretch,
            )


def move(packet: Any, seconds: Fraction) -> None:  # noqa: ANN401
    """Change a packet's times by so many seconds, to the nearest tick."""
    ticks = round(seconds / packet.time_base)
    if packet.pts is not None:
        packet.pts += ticks
    if packet.dts is not None:
        packet.dts += ticks
