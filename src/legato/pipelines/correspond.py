"""From frames to what belongs together among them, as tensors that guide an image model.

Here flow and models meet: flows and occlusions become the token correspondences of attention, the
losses of features and the background that is carried along. Yang et al. 2024 (FRESCO),
arXiv:2403.12962, section 4.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.fresco import ClipCorrespondence
from legato.flow.background import background_of, smooth_background
from legato.flow.correspondence import CyclicMotion, TokenLinks, follow, link
from legato.flow.estimate import FlowEstimator
from legato.flow.foreground import stand_out
from legato.models.token_correspondence import ByTokens, TokenCorrespondence

Saliency = Callable[[Float[Tensor, "T 3 H W"], CyclicMotion], Float[Tensor, "T 1 h w"]]
"""Frames in [-1, 1] and their motion to what stands out in them, 0 to 1, at any size."""


def correspond_clip(
    frames: Float[Tensor, "T 3 H W"],
    estimate: FlowEstimator,
    *,
    strides: Sequence[int],
    saliency: Saliency | None = stand_out,
) -> ClipCorrespondence:
    """Return what belongs together among frames that are denoised together.

    Args:
        frames: RGB in [-1, 1], at the size that the model sees (padded to what it divides); one
            frame is legal, and so are frames without any correspondence, e.g. across a cut.
        estimate: finds the flow; the result is on the device of the frames.
        strides: pixels of the frames per token, of each token grid that is guided.
        saliency: finds what the background leaves out; None: no background is carried along.
    """
    return clip_of(frames, follow(frames, estimate), strides=strides, saliency=saliency)


def clip_of(
    frames: Float[Tensor, "T 3 H W"],
    motion: CyclicMotion,
    *,
    strides: Sequence[int],
    saliency: Saliency | None = stand_out,
) -> ClipCorrespondence:
    """Return the correspondence of frames whose motion is known; arguments as `correspond_clip`."""
    background = None
    if saliency is not None and len(frames) > 1:
        behind = background_of(saliency(frames, motion))
        background = partial(smooth_background, motion=motion, background=behind)
    return ClipCorrespondence(
        num_frames=len(frames),
        tokens=tokens_of(link(frames, motion, stride=stride) for stride in strides),
        flow=motion if len(frames) > 1 else None,
        background=background,
    )


def tokens_of(links: Iterable[TokenLinks]) -> ByTokens:
    """Return the links of token grids as what attention looks up, by number of tokens.

    Of two grids with equally many tokens the finer one counts.
    """
    coarse_to_fine = sorted(links, key=lambda each: -each.stride)
    return {
        each.unique.shape[1]: TokenCorrespondence(
            unique=each.unique,
            forward=each.trajectories.permutation,
            inverse=each.trajectories.inverse,
            link=each.trajectories.linked,
        )
        for each in coarse_to_fine
    }
