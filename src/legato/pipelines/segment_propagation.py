"""Estimates of a segment carried along the optical flow of its small clip."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Edit, Step
from legato.diffusion.latent_propagation import LatentPropagation
from legato.flow.estimate import FlowEstimator
from legato.pipelines.carried import Carried
from legato.pipelines.segment import Layout, seeds_of
from legato.pipelines.tiles import padded


@dataclass(frozen=True, kw_only=True)
class SegmentPropagation:
    """Makes the edit of a segment; a shot's segments are seeded by those before."""

    estimator: FlowEstimator

    steps: Collection[int]
    """At which estimates are carried, counted from 0."""

    def edit(
        self,
        clip: Float[Tensor, "1 T 3 h w"],
        size: tuple[int, int],
        layout: Layout,
        state: Carried | None,
    ) -> Edit:
        """Return the propagation, whose flow is estimated once the network has seen the clip.

        Flow takes more memory than the clip, and the network's activations are gone by then.

        Args:
            clip: padded, on the device where estimates are carried.
            size: rows and columns of it before it was padded.
            layout: of the segment in the clip.
            state: what the segment before left; None at the start of a shot.
        """
        num_anchors = layout.num_anchors if state is not None else 0
        first = max(num_anchors - 1, 0)  # no flow is needed among frames that are finished
        (height, width), (rows, cols) = size, clip.shape[-2:]

        @cache
        def propagation() -> LatentPropagation:
            forward, backward = self.estimator(clip[0, first:, :, :height, :width])
            forward = padded(forward.to(clip.device), rows, cols)  # one after the other: large
            backward = padded(backward.to(clip.device), rows, cols)
            return LatentPropagation(
                flow_forward=forward,
                flow_backward=backward,
                first_pair=first,
                steps=self.steps,
                num_anchors=num_anchors,
                seeds=seeds_of(state) if num_anchors else {},
            )

        def edit(step: Step, x0: Tensor) -> Tensor:
            return propagation()(step, x0) if step.index in self.steps else x0

        return edit
