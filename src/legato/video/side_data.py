"""What travels beside a decoded picture: its turn, HDR metadata, its colour profile."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, cast

import av.filter
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

NUM_LATER_KINDS = 8
"""Kinds of side data that FFmpeg may have beyond the last one that PyAV can name, such as EXIF."""
LAST_KIND = max(kind.value for kind in cast(Any, Type))
LATER_KINDS = tuple(range(LAST_KIND + 1, LAST_KIND + 1 + NUM_LATER_KINDS))
PROFILE_KIND: int = cast(Any, Type).ICC_PROFILE.value


def side_data(frame: VideoFrame) -> dict[str, bytes]:
    """Return side data by its kind's name, such as DISPLAYMATRIX.

    Kinds without a name are left, and so is a colour profile: one of a PNG carries its name, which
    PyAV and FFmpeg would both free.
    """
    return _named(frame, without=(PROFILE_KIND,))


def colour_profile(frame: VideoFrame) -> bytes | None:
    """Return the ICC profile beside a decoded picture of any kind but PNG, or None."""
    return _named(frame).get("ICC_PROFILE")


def _named(frame: VideoFrame, *, without: tuple[int, ...] = ()) -> dict[str, bytes]:
    kept = _without(frame, without) if without else frame
    try:
        return _all_named(kept)
    except ValueError:  # one kind that PyAV cannot name hides all others
        return _all_named(_without(kept, LATER_KINDS))


def _all_named(frame: VideoFrame) -> dict[str, bytes]:
    return {data.type.name: bytes(data) for data in cast(Any, frame.side_data)}


def _without(frame: VideoFrame, kinds: Iterable[int]) -> VideoFrame:
    graph = av.filter.Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
    )
    for kind in kinds:
        deleting = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(deleting)
        last = deleting
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()
