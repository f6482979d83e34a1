"""Where a segment lies in its shot, and what goes from one segment to the next.

All frame numbers here count from the shot's first frame unless they are said to be the clip's own.
"""

from dataclasses import dataclass

from torch import Tensor

from legato.diffusion.anchors import Anchors, Recorder
from legato.pipelines.carried import Carried
from legato.pipelines.windows import Grid


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A segment's clip: context before, frames to emit, look-ahead."""

    first: int
    """First frame of the clip."""

    position: int
    """First frame to emit."""

    emit_stop: int
    """Frame after the last one to emit."""

    stop: int
    """Frame after the clip's last."""

    ends: bool
    """Whether the shot ends with the clip."""

    @classmethod
    def of_clip(
        cls, num_frames: int, *, position: int, num_anchors: int, num_lookahead: int, ends: bool
    ) -> "Layout":
        """Place a clip of which so many frames come before and after those to emit."""
        first = position - num_anchors
        stop = first + num_frames
        return cls(
            first=first, position=position, emit_stop=stop - num_lookahead, stop=stop, ends=ends
        )

    @property
    def num_anchors(self) -> int:
        """Frames before the first one to emit."""
        return self.position - self.first


def kept_predictions(state: Carried | None, layout: Layout) -> dict[tuple[int, int, str], Tensor]:
    """Return the first-step predictions that an earlier segment made, by the clip's own windows."""
    kept = {}
    for name, prediction in ({} if state is None else state.within("kept")).items():
        start, stop, branch = name.split("/")
        if int(start) >= layout.first and int(stop) <= layout.stop:
            kept[int(start) - layout.first, int(stop) - layout.first, branch] = prediction
    return kept


def anchors_of(state: Carried | None, layout: Layout, *, num_steps: int) -> Anchors:
    """Return what the earlier segment has fixed, at every step."""
    latents: dict[int, Tensor] = {}
    if state is not None:
        latents = {int(step): known for step, known in state.within("step").items()}
        if "latents" in state.tensors:
            latents[num_steps - 1] = state.tensors["latents"]
    return Anchors(stop=layout.num_anchors, latents=latents)


def seeds_of(state: Carried | None) -> dict[int, Tensor]:
    """Return the propagated x_0 of the last emitted frame, by step."""
    found = {} if state is None else state.within("seed")
    return {int(step): seed for step, seed in found.items()}


def num_anchors_after(layout: Layout, grid: Grid) -> int:
    """Return how many frames back the windows reach that touch the next segment's first frame."""
    following = layout.emit_stop
    start = max((following - grid.size) // grid.stride + 1, 0) * grid.stride
    if layout.ends and layout.stop - grid.size >= 0:  # a window that ends with the shot
        start = min(start, layout.stop - grid.size)
    return max(following - start, 0)


def carry(
    layout: Layout,
    *,
    latents: Tensor | None,
    recorder: Recorder,
    kept: dict[tuple[int, int, str], Tensor],
) -> Carried:
    """Collect what the next segment must know.

    Args:
        layout: of this segment.
        latents: clean latents of the last emitted frames, for the decoder to look back at.
        recorder: what was seen at every step.
        kept: first-step predictions, by the clip's own windows.
    """
    tensors = {f"step/{step}": z for step, z in recorder.latents.items()}
    tensors |= {f"seed/{step}": x0 for step, x0 in recorder.seeds.items()}
    if latents is not None:
        tensors["latents"] = latents.detach().clone().cpu()
    for (start, stop, branch), prediction in kept.items():
        if stop + layout.first > layout.emit_stop:
            name = f"kept/{start + layout.first}/{stop + layout.first}/{branch}"
            tensors[name] = prediction.detach().clone().cpu()
    return Carried(position=layout.emit_stop, tensors=tensors)
