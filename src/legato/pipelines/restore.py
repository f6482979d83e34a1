"""The tensor core of upscaling: low-resolution frames of one segment in, high-resolution frames out.

A shot is restored segment by segment. What a segment must know of the one before travels in a
`Carried` state (see `carried.py`), so that any way of cutting a shot gives the same frames up to
rounding and to what lies more than `context_after` frames ahead.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from legato.errors import ResourceError
from legato.flow.estimate import FlowEstimator
from legato.pipelines.carried import Carried
from legato.pipelines.restore_options import RestoreOptions

__all__ = ["BrokenOutputError", "Carried", "RestoreOptions", "Restorer", "is_broken"]

OnStep = Callable[[int, int], None]


class BrokenOutputError(ResourceError):
    """The model gave NaN, infinity or black frames; the caller may try again in float32."""


class Restorer:
    """Restores one segment of a shot after another with one model and one set of options.

    Args:
        model: the upscaler, already on `device` in `dtype`.
        options: what the user chose; None in a field means the model's own default.
        device: where to compute. Frames and results live on the CPU.
        dtype: precision of the networks; everything between them is float32.
        estimator: optical flow, needed only where propagation is on.

    Attributes:
        context_before: how many frames before a segment's first one the caller should hand over
            (fewer at the start of a shot).
        context_after: how many frames after its last one (fewer at the end of a shot: fewer than
            this many look-ahead frames tell the restorer that the shot ends with them).
        scale: output pixels per input pixel, each way.

    Raises:
        InputError: an option that this model cannot honour, e.g. strength below 1 without encoder.
    """

    context_before: int
    context_after: int
    scale: int

    def __call__(
        self,
        frames: Float[Tensor, "T 3 H W"],
        ticks: Sequence[int],
        *,
        num_anchors: int,
        num_lookahead: int,
        state: Carried | None,
        on_step: OnStep | None = None,
    ) -> tuple[Float[Tensor, "E 3 sH sW"], Carried]:
        """Return the restored frames of one segment and what the next segment must know.

        Args:
            frames: context before, frames to emit, look-ahead; in [-1, 1].
            ticks: each frame's presentation time in stream ticks (index in image folders): the
                seed of its noise.
            num_anchors: leading frames that the previous segment emitted. At the start of a shot 0,
                else `min(context_before, frames emitted so far)`.
            num_lookahead: trailing frames that belong to the next segment.
            state: what the previous segment returned; None at the start of a shot.
            on_step: called with (passes done, passes in all) after each window of each step and each
                decoded chunk; what it raises stops the work.

        Raises:
            BrokenOutputError: the result is NaN, or black where the input is not.
        """
        chunks, carried = self.stream(
            frames,
            ticks,
            num_anchors=num_anchors,
            num_lookahead=num_lookahead,
            state=state,
            on_step=on_step,
        )
        return torch.cat(list(chunks)), carried

    def stream(
        self,
        frames: Float[Tensor, "T 3 H W"],
        ticks: Sequence[int],
        *,
        num_anchors: int,
        num_lookahead: int,
        state: Carried | None,
        on_step: OnStep | None = None,
    ) -> tuple[Iterator[Float[Tensor, "C 3 sH sW"]], Carried]:
        """Like calling the restorer, but decode lazily: a few frames at a time, in order.

        Prefer it: the whole segment at full size is then never in memory at once. The state is
        complete when this returns; the iterator must be exhausted before the next call.
        """
        raise NotImplementedError


def is_broken(frames: Float[Tensor, "T 3 sH sW"], low_res: Float[Tensor, "T 3 H W"]) -> bool:
    """Tell whether any frame is NaN or infinite, or black while the input's frame is not.

    Black means that no value reaches 2% of the range; an input counts as not black when its
    brightest value reaches 10%.
    """
    raise NotImplementedError
