"""Interlaced pictures to progressive ones, as many out as in."""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

import av.error
import av.filter
from av.video.frame import VideoFrame

from legato.video.probe import FieldOrder

T = TypeVar("T")
PARITY = {"top": "tff", "bottom": "bff"}


def deinterlace(
    pictures: Iterable[tuple[VideoFrame, T]], *, order: FieldOrder, is_flagged: bool
) -> Iterator[tuple[VideoFrame, T]]:
    """Yield each picture deinterlaced with FFmpeg's bwdif, with the tag that came with it.

    bwdif (send_frame) keeps the first field's lines and interpolates the others from the
    neighbouring lines and pictures.

    Args:
        pictures: decoded pictures of one size and format, and anything that belongs to each.
        order: which field comes first where pictures do not say.
        is_flagged: whether they say, each for itself; those that call themselves progressive stay
            as they are. Of the whole file: the first picture after a seek may be of either kind.
    """
    graph: av.filter.Graph | None = None
    tags: deque[T] = deque()
    shape: tuple[int, int, str] | None = None
    for index, (frame, tag) in enumerate(pictures):
        new_shape = (frame.width, frame.height, frame.format.name)
        if graph is not None and new_shape != shape:
            yield from _drain(graph, tags)
            graph = None
        if graph is None:
            graph, shape = _graph(frame, order, is_flagged=is_flagged), new_shape
        frame.pts, frame.time_base = index, Fraction(1, 25)  # times travel in the tags
        graph.vpush(frame)
        tags.append(tag)
        yield from _pull(graph, tags)
    if graph is not None:
        yield from _drain(graph, tags)


def _graph(frame: VideoFrame, order: FieldOrder, *, is_flagged: bool) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    parity, which = ("auto", "interlaced") if is_flagged else (PARITY.get(order, "auto"), "all")
    bwdif = graph.add("bwdif", f"mode=send_frame:parity={parity}:deint={which}")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    return graph


def _pull(graph: av.filter.Graph, tags: deque[T]) -> Iterator[tuple[VideoFrame, T]]:
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield frame, tags.popleft()


def _drain(graph: av.filter.Graph, tags: deque[T]) -> Iterator[tuple[VideoFrame, T]]:
    graph.vpush(None)
    yield from _pull(graph, tags)
    assert not tags, "bwdif lost a frame"
