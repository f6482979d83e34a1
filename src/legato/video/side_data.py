"""What travels beside a decoded picture: its turn, HDR metadata and the like."""

from fractions import Fraction
from typing import Any, cast

import av.filter
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

NUM_LATER_KINDS = 8
"""Kinds of side data that FFmpeg may have beyond the last one that PyAV can name, such as EXIF."""


def side_data(frame: VideoFrame) -> dict[str, bytes]:
    """Return side data by its kind's name, such as DISPLAYMATRIX; kinds without a name are left."""
    try:
        return _named(frame)
    except ValueError:  # one kind that PyAV cannot name hides all others
        return _named(_without_later_kinds(frame))


def _named(frame: VideoFrame) -> dict[str, bytes]:
    return {data.type.name: bytes(data) for data in cast(Any, frame.side_data)}


def _without_later_kinds(frame: VideoFrame) -> VideoFrame:
    first = max(kind.value for kind in cast(Any, Type)) + 1
    graph = av.filter.Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
    )
    for kind in range(first, first + NUM_LATER_KINDS):
        deleting = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(deleting)
        last = deleting
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()
