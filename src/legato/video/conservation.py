"""Is everything of the input in the output: frames, times, size and streams?"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from legato.errors import DecodeError
from legato.video.clock import round_times
from legato.video.container import open_container
from legato.video.icc import can_hold
from legato.video.images import read_profile
from legato.video.probe import VideoFacts, probe
from legato.video.read import read_times
from legato.video.stretches import packets_in_step
from legato.video.tracks import NO_ROTATION, counts_samples, plan_tracks, timecode_loss

MAX_LISTED = 3
UNTIMED = ("images", "image")
SOUND_TOLERANCE = Fraction(1, 10)  # a packet at each end, and an encoder's lead-in


@dataclass(frozen=True, slots=True, kw_only=True)
class Conservation:
    """What was compared, and every difference found."""

    num_frames_source: int
    num_frames_target: int
    differences: tuple[str, ...]
    """One sentence per difference; empty: everything was kept."""
    notices: tuple[str, ...] = ()
    """What the target's container or codec cannot hold, which is no difference therefore."""

    @property
    def kept(self) -> bool:
        """Tell whether nothing differs."""
        return not self.differences


def verify(
    source: Path | str,
    target: Path | str,
    *,
    scale: Fraction | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> Conservation:
    """Compare frame count, frame times, exact size, streams and durations of two files.

    Both are decoded once. Times are compared after rounding to the target's time base; they do
    not count where the target is a folder of images, which has none.

    Args:
        source: the input.
        target: the output made from it.
        scale: output rows per input row; None: not compared, only that both axes grew alike.
        start: only the source's frames with `start <= time < end` were processed.
        end: see `start`.

    Raises:
        DecodeError: one of the files cannot be read.
    """
    source, target = Path(source), Path(target)
    facts, made = probe(source), probe(target)
    is_range = start is not None or end is not None
    all_times = list(read_times(source, facts=facts))
    times = [
        t
        for t in all_times
        if not is_range or ((start is None or t >= start) and (end is None or t < end))
    ]
    target_times = list(read_times(target, facts=made))
    differences = _size_differences(facts, made, scale)
    if len(times) != len(target_times):
        differences.append(f"frames: {len(times)} in, {len(target_times)} out")
    elif made.kind not in UNTIMED:
        differences += _time_differences(times, target_times, made, moved=is_range)
    if made.kind == "video":
        differences += _stream_differences(facts, made, target)
        differences += _tag_differences(facts, made, target)
        later = times[0] - all_times[0] if times else Fraction(0)
        differences += _timecode_differences(facts, made, target, later=later)
        moves = is_range or made.container == "avi"
        origin = times[0] if moves and times else Fraction(0)
        differences += _sound_differences(facts, made, (origin, end))
    differences += _profile_differences(facts, made, times)
    dropped = (t for t in plan_tracks(facts, target) if t.action == "drop")
    lost = [f"{t.label}: {t.reason}" for t in dropped] + _picture_losses(facts, made, target)
    return Conservation(
        num_frames_source=len(times),
        num_frames_target=len(target_times),
        differences=tuple(differences),
        notices=tuple(lost),
    )


def _size_differences(facts: VideoFacts, made: VideoFacts, scale: Fraction | None) -> list[str]:
    if facts.rotation_deg % 180 == 90 and made.rotation_deg == 0 and _is_turned(made):
        made = replace(made, width=made.height, height=made.width)
    rows, cols = Fraction(made.height, facts.height), Fraction(made.width, facts.width)
    if scale is None:
        by_rows, by_cols = facts.width * rows, facts.height * cols
        alike = abs(made.width - by_rows) <= 1 or abs(made.height - by_cols) <= 1
        return [] if alike else [f"size: rows grew {float(rows):g}, columns {float(cols):g} times"]
    expected, found = facts.scaled(scale), (made.width, made.height)
    sizes = "{}x{} expected, {}x{} found".format(*expected, *found)
    return [] if expected == found else [f"size: {sizes}"]


def _time_differences(
    times: list[Fraction], found: list[Fraction], made: VideoFacts, *, moved: bool
) -> list[str]:
    """Compare in the target's ticks; GIF and AVI start at 0, and no container starts before."""
    if not times:
        return []
    starts_at_0 = moved or made.codec == "gif" or made.container == "avi"
    origin = times[0] if starts_at_0 else min(times[0], Fraction(0))
    expected = [n for n, _ in round_times(((t - origin, None) for t in times), made.time_base)]
    start = found[0] if made.container == "avi" else Fraction(0)  # readers guess a delay there
    ticks = [round((t - start) / made.time_base) for t in found]
    wrong = [i for i, (a, b) in enumerate(zip(expected, ticks, strict=True)) if a != b]
    listed = ", ".join(
        f"frame {i} at {float(ticks[i] * made.time_base):.6f} s instead of "
        f"{float(expected[i] * made.time_base):.6f} s"
        for i in wrong[:MAX_LISTED]
    )
    return [f"times: {len(wrong)} of {len(times)} differ ({listed})"] if wrong else []


def _stream_differences(facts: VideoFacts, made: VideoFacts, target: Path) -> list[str]:
    expected = Counter(t.stream.type for t in plan_tracks(facts, target) if t.action != "drop")
    found = Counter(s.type for s in made.streams if s.index != made.stream_index)
    return [
        f"{name} streams: {expected[name]} expected, {found[name]} found"
        for name in sorted(expected | found)
        if expected[name] != found[name]
    ]


def _is_turned(made: VideoFacts) -> bool:
    """Tell whether the file is of a kind whose pixels are turned as the source asked."""
    return made.kind in UNTIMED or made.codec == "gif"


def _tag_differences(facts: VideoFacts, made: VideoFacts, target: Path) -> list[str]:
    """Compare what a player needs to show the picture rightly."""
    found = []
    holds_turn = not _is_turned(made) and target.suffix.lower() not in NO_ROTATION
    if facts.rotation_deg != made.rotation_deg and holds_turn:
        found.append(f"rotation: {facts.rotation_deg} in, {made.rotation_deg} out")
    if facts.sample_aspect != made.sample_aspect and made.codec != "gif":
        found.append(f"sample aspect: {facts.sample_aspect} in, {made.sample_aspect} out")
    a, b = facts.colour, made.colour
    if (a.primaries, a.transfer) != (b.primaries, b.transfer) and b.matrix != 0:
        before, after = f"{a.primaries}/{a.transfer}", f"{b.primaries}/{b.transfer}"
        found.append(f"colour primaries/transfer: {before} in, {after} out")
    return found


def _timecode_differences(
    facts: VideoFacts, made: VideoFacts, target: Path, *, later: Fraction
) -> list[str]:
    """Compare with that of the source's first frame, so many seconds later."""
    if facts.timecode is None or timecode_loss(facts, target):
        return []
    expected, found = facts.timecode.later(round(later * facts.frame_rate)), made.timecode
    return [] if found == expected else [f"timecode: {expected} expected, {found} found"]


def _picture_losses(facts: VideoFacts, made: VideoFacts, target: Path) -> list[str]:
    """Return what of each picture the target lacks, as its codec or container cannot hold it."""
    found = []
    if facts.has_alpha and not made.has_alpha:
        found.append("opacity: none in the output")
    if facts.bit_depth > made.bit_depth:
        found.append(f"depth: {facts.bit_depth} bits in, {made.bit_depth} out")
    if facts.hdr is not None and made.hdr is None:
        found.append("HDR10's static metadata: none in the output")
    kind = _still_kind(made)
    if facts.icc_profile is not None and not can_hold(facts.icc_profile, kind):
        found.append("colour profile: none in the output")
    found += timecode_loss(facts, target)
    if facts.rotation_deg != made.rotation_deg and target.suffix.lower() in NO_ROTATION:
        found.append(f"turn by {facts.rotation_deg} degrees: {target.suffix} cannot hold it")
    return found


def _profile_differences(
    facts: VideoFacts, made: VideoFacts, times: Sequence[Fraction]
) -> list[str]:
    """Compare the colour profiles of images, which are the same bytes wherever they can be held."""
    if facts.kind not in UNTIMED or made.kind not in UNTIMED:
        return []
    images, targets = facts.images or (facts.path,), made.images or (made.path,)
    sources = [images[round(time / facts.time_base)] for time in times]
    kind, wrong = _still_kind(made), []
    for source, target in zip(sources, targets, strict=False):
        with contextlib.suppress(DecodeError):  # a lost image, which is told of elsewhere
            profile = read_profile(source)
            held = profile is not None and can_hold(profile, kind)
            if held and read_profile(target) != profile:
                wrong.append(target.name)
    listed = ", ".join(wrong[:MAX_LISTED])
    return [f"colour profiles: {len(wrong)} of {len(sources)} lost ({listed})"] if wrong else []


def _still_kind(made: VideoFacts) -> str:
    """Return the suffix of the images that were made; "" where it is a video."""
    images = made.images or (made.path,)
    return images[0].suffix.lower() if made.kind in UNTIMED else ""


def _sound_differences(
    facts: VideoFacts, made: VideoFacts, cut: tuple[Fraction, Fraction | None]
) -> list[str]:
    """Compare when each sound stream begins and ends, to about a packet."""
    origin, end = cut
    found = []
    codecs = (s.codec for s in made.streams if s.type == "audio")
    sounds = zip(_sound_spans(facts), _sound_spans(made), codecs, strict=False)
    for number, (before, after, codec) in enumerate(sounds):
        starts_at_0 = counts_samples(codec, made.path.suffix.lower())
        first = Fraction(0) if starts_at_0 else max(before[0] - origin, Fraction(0))
        last = before[1] - origin
        if end is not None:
            last = min(last, end - origin)
        late, early = abs(max(after[0], Fraction(0)) - first), abs(after[1] - last)
        if last > first and max(late, early) > SOUND_TOLERANCE:
            wanted, given = _span_text((first, last)), _span_text(after)
            found.append(f"sound {number}: {wanted} expected, {given} found")
    return found


def _span_text(span: tuple[Fraction, Fraction]) -> str:
    return f"{float(span[0]):.3f} to {float(span[1]):.3f} s"


def _sound_spans(facts: VideoFacts) -> list[tuple[Fraction, Fraction]]:
    """Return the first and last moment of each sound stream."""
    spans: dict[int, tuple[Fraction, Fraction]] = {}
    if facts.kind != "video":
        return []
    with open_container(facts.path) as container:
        if not container.streams.audio:
            return []
        for packet in packets_in_step(container, container.streams.audio, facts):
            if packet.pts is None or packet.time_base is None:
                continue
            begin = packet.pts * packet.time_base
            end = begin + (packet.duration or 0) * packet.time_base
            known = spans.get(packet.stream.index, (begin, end))
            spans[packet.stream.index] = (min(known[0], begin), max(known[1], end))
    return [spans[index] for index in sorted(spans)]
