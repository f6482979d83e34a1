"""Joining finished segments and carrying sound, subtitles, chapters and tags across."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from legato.errors import InputError
from legato.video.atomic import put_in_place, remove, temporary_beside, writing
from legato.video.probe import VideoFacts
from legato.video.remux import Cut, Joiner
from legato.video.stills import join_gif, join_stills
from legato.video.tracks import Track, plan_tracks, timecode_loss


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

    def add(self, track: Track) -> None:
        """Note what becomes of one stream."""
        if track.action == "copy":
            self.kept.append(track.label)
        elif track.action == "transcode":
            self.transcoded.append(track.label)
            self.notices.append(f"{track.label}: coded anew as {track.codec}")
        else:
            self.dropped.append(track.label)
            self.notices.append(f"{track.label}: left out, {track.reason}")


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
    if not segments:
        raise InputError(f"{target}", why="there is no segment to join", fix="upscale first")
    target, report = Path(target), JoinReport()
    temporary = temporary_beside(target)
    cut = Cut.of(segments, target, facts, start, end)
    for track in plan_tracks(facts, target):
        report.add(track)
    report.notices += timecode_loss(facts, target)
    try:
        with writing(target):
            if segments[0].is_dir():
                report.num_frames = join_stills(segments, temporary, target=target, facts=facts)
            elif target.suffix.lower() == ".gif":
                report.num_frames = join_gif(segments, temporary, facts=facts, origin=cut.origin)
            else:
                joiner = Joiner(segments, temporary, facts, cut)
                joiner.run(source)
                report.num_frames = joiner.num_frames
                report.notices += joiner.notices
        put_in_place(temporary, target)
    except BaseException:
        remove(temporary)
        raise
    return report
