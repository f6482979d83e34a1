"""What changes the clean estimate of a batch of key frames: edits of other systems, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Edit
from legato.diffusion.frame_fusion import ColorFusion, PixelFusion, ShapeFusion
from legato.diffusion.interleaved_smoother import FlowBetween, InterleavedSmoother
from legato.flow.correspondence import follow, to_first
from legato.flow.estimate import FlowEstimator
from legato.models.image_model import ImageModel

INTERLEAVED = 0.6
"""Of the whole schedule: 20 of 50 steps remain, as ControlVideo has it."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames that are denoised together."""

    frames: Float[Tensor, "T 3 H W"]
    """In [-1, 1], on the model's device."""
    ticks: Sequence[int]
    """Their times, rising."""
    reference: Float[Tensor, "1 T C h w"]
    """Their latents with the little noise of the last timestep."""
    timesteps: Sequence[int]
    """Those of the loop, falling."""
    num_steps: int
    """Of the whole schedule."""


def edits_of(
    chosen: frozenset[str], clip: Clip, model: ImageModel, estimate: FlowEstimator
) -> list[Edit]:
    """Return the named edits, in the order in which they act.

    Args:
        chosen: from `consistency.holds`.
        clip: the batch.
        model: decodes and encodes estimates.
        estimate: finds the flow.
    """
    edits: list[Edit] = []
    if len(clip.frames) < 2:
        return edits
    if not chosen.isdisjoint({"shape-aware", "pixel-aware"}):
        first = to_first(clip.frames, estimate)
        if "shape-aware" in chosen:
            edits.append(ShapeFusion(to_first=first))
        if "pixel-aware" in chosen:
            previous = follow(clip.frames, estimate).to_previous
            edits.append(
                PixelFusion(
                    decode=model.decode,
                    encode=model.encode,
                    to_first=first,
                    to_previous=previous,
                )
            )
    if "interleaved" in chosen:
        executed = len(clip.timesteps)
        wanted = round(INTERLEAVED * clip.num_steps) - (clip.num_steps - executed)
        edits.append(
            InterleavedSmoother(
                decode=model.decode,
                encode=model.encode,
                between=FlowBetween(estimate),
                times=clip.ticks,
                first_step=max(0, min(wanted, executed - 2)),
            )
        )
    if "color-aware" in chosen:
        edits.append(ColorFusion())
    return edits
