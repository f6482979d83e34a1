"""Overlapping windows in time.

Windows lie on a grid that is fixed to the shot, not to the segment that is being computed: starts
are multiples of `size - overlap` counted from the shot's first frame, so that every way of cutting
the shot into segments computes the same windows.
"""

from dataclasses import dataclass

from legato.diffusion.spans import Span


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How many frames a window holds, and how many it shares with the next.

    Raises:
        ValueError: windows that do not advance.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size:
            raise ValueError(f"overlap {self.overlap} does not fit windows of {self.size}")

    @property
    def stride(self) -> int:
        """Frames from one window's start to the next one's."""
        return self.size - self.overlap


def plan_segment_windows(
    first: int, stop: int, grid: Grid, *, needed: tuple[int, int], ends: bool
) -> list[Span]:
    """Cover the needed frames of a segment's clip with windows of the shot's grid.

    Args:
        first: index in the shot of the clip's first frame.
        stop: index after its last frame.
        grid: size and overlap.
        needed: first needed frame and the one after the last, in the shot's indices.
        ends: whether the shot ends with the clip; a window then ends there too. Otherwise frames
            near the clip's end that no complete window reaches stay uncovered, unless needed.

    Returns:
        Windows in the clip's own indices; weights sum to 1 at every needed frame and at every
        frame that a window covers.
    """
    size = min(grid.size, stop - first)
    starts = [
        start
        for start in range(0, stop, grid.stride)
        if start >= first and start + size <= stop and start + size > needed[0]
    ]
    starts = [start for start in starts if start < needed[1]]
    reach_back, reach = starts[0] if starts else stop, starts[-1] + size if starts else 0
    if reach_back > needed[0]:  # less context than a window needs: begin with the clip
        begin = max(first, min(needed[0], stop - size))
        starts.insert(0, begin)
        reach = max(reach, begin + size)
    must_reach = stop if ends and needed[1] > stop - size else needed[1]
    while reach < must_reach:
        start = min(starts[-1] + grid.stride, stop - size)
        starts.append(start)
        reach = start + size
    return _weighted([(start - first, start - first + size) for start in starts], grid.overlap)


def reference_windows(num_frames: int, *, size: int = 8, stride: int = 6) -> list[Span]:
    """Return the windows of the released Upscale-A-Video and its merging, for agreement with it.

    A window starts every `stride` frames; one that would pass the end is moved back, even where it
    then repeats another. A frame's predictions are merged by a running average, 0.5 old + 0.5 new,
    which is a weighted sum: with three visits 1/4, 1/4, 1/2.
    """
    if num_frames <= size:
        return [Span.whole(num_frames)]
    starts = [min(start, num_frames - size) for start in range(0, num_frames, stride)]
    weights: list[dict[int, float]] = []
    visited: dict[int, list[dict[int, float]]] = {frame: [] for frame in range(num_frames)}
    for start in starts:
        own: dict[int, float] = {}
        for frame in range(start, start + size):
            for earlier in visited[frame]:
                earlier[frame] *= 0.5
            own[frame] = 0.5 if visited[frame] else 1.0
            visited[frame].append(own)
        weights.append(own)
    return [
        Span(start, start + size, tuple(own[frame] for frame in range(start, start + size)))
        for start, own in zip(starts, weights, strict=True)
    ]


def _weighted(spans: list[tuple[int, int]], overlap: int) -> list[Span]:
    """Give every span linear ramps over the overlap at both ends, normalised to sum 1."""
    raw = [ramp(stop - start, overlap) for start, stop in spans]
    total: dict[int, float] = {}
    for (start, _), weights in zip(spans, raw, strict=True):
        for offset, weight in enumerate(weights):
            total[start + offset] = total.get(start + offset, 0.0) + weight
    return [
        Span(start, stop, tuple(w / total[start + k] for k, w in enumerate(weights)))
        for (start, stop), weights in zip(spans, raw, strict=True)
    ]


def ramp(size: int, overlap: int) -> list[float]:
    """Return weights that rise linearly over the overlap, stay at 1, and fall again; never 0."""
    return [min(k + 1, size - k, overlap + 1) / (overlap + 1) for k in range(size)]
