"""Edits that fuse every frame of the clean estimate with the first one, and the one before.

Yang et al. 2023 (Rerender-A-Video), arXiv:2306.07954, sections 4.1 and 4.2: shapes early, pixels in
the middle, colours late. Shares are of the executed steps; frame 0 stays bit for bit.

Differs: the frames of a batch are fused within one sampling, in the clean estimate, where Rerender
samples each frame twice and puts fused pictures under noise; so no noise has to be rescaled.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from legato.diffusion.denoiser import Step
from legato.diffusion.feature_optimisation import with_statistics
from legato.flow.correspondence import BackMotion
from legato.flow.resample import cover_mask, resample_flow
from legato.flow.warp import warp

SHAPE, PIXEL, COLOR = (0.0, 0.1), (0.5, 0.8), (0.8, 1.0)
"""From where until where each acts."""
PIXEL_STRENGTH = 0.5
"""How far a latent moves to the fused picture's."""
MOST_LOST = 0.25
"""Of values in [-1, 1]: where decoding loses more, the encoding is not corrected."""
_EDGE_PX, _EDGE_SIGMA = 9, 18.0


def acts(share: tuple[float, float], step: Step) -> bool:
    """Tell whether a step lies in a share of the executed ones; each share has at least one."""
    start = min(round(share[0] * step.num_steps), step.num_steps - 1)
    return start <= step.index < max(round(share[1] * step.num_steps), start + 1)


@dataclass(frozen=True, kw_only=True)
class ShapeFusion:
    """Edit of x_0: early, what the first frame shows of a later one is fetched from there."""

    to_first: BackMotion

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0 with the first frame's cells, the nearest ones, where they are visible."""
        later = x0.shape[1] - 1
        if not later or not acts(SHAPE, step):
            return x0
        size = x0.shape[-2], x0.shape[-1]
        flow = resample_flow(self.to_first.flow, size)
        hidden = cover_mask(self.to_first.hidden, size)[:, None]
        clips = []
        for clip in x0:
            first = clip[:1].expand(later, -1, -1, -1)
            moved = warp(first, flow, mode="nearest", padding="border").to(clip)
            clips.append(torch.cat((clip[:1], torch.where(hidden, clip[1:], moved))))
        return torch.stack(clips)


@dataclass(frozen=True, kw_only=True)
class PixelFusion:
    """Edit of x_0: in the middle, decoded frames take pixels of the one before and of the first.

    With W the warped frame and M where it is hidden, softened, from frame to frame
    I_i <- M_first (M_previous I_i + (1 - M_previous) W(I_{i-1})) + (1 - M_first) W(I_0).
    """

    decode: Callable[[Float[Tensor, "B T C h w"]], Float[Tensor, "B T 3 H W"]]
    encode: Callable[[Float[Tensor, "B T 3 H W"]], Float[Tensor, "B T C h w"]]
    to_first: BackMotion
    to_previous: BackMotion

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0, half-way to the fused pictures where either frame shows something."""
        if x0.shape[1] < 2 or not acts(PIXEL, step):
            return x0
        fused = self.fused(self.decode(x0))
        size = x0.shape[-2], x0.shape[-1]
        hidden = self.to_first.hidden & self.to_previous.hidden
        share = PIXEL_STRENGTH * ~cover_mask(hidden, size)[:, None]
        target = self.faithful(fused)[:, 1:].to(x0)
        return torch.cat((x0[:, :1], x0[:, 1:] + share * (target - x0[:, 1:])), dim=1)

    def fused(self, frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T 3 H W"]:
        """Return frames with the pixels that others show of them."""
        soft = [_softened(motion.hidden) for motion in (self.to_first, self.to_previous)]
        done = [frames[:, 0]]
        for pair in range(frames.shape[1] - 1):
            picture = frames[:, pair + 1]
            for motion, mask, other in (
                (self.to_previous, soft[1][pair], done[-1]),
                (self.to_first, soft[0][pair], done[0]),
            ):
                flow = motion.flow[pair].expand(len(frames), -1, -1, -1)
                seen = warp(other, flow, padding="border")
                picture = mask * picture + (1 - mask) * seen
            done.append(picture)
        return torch.stack(done, dim=1)

    def faithful(self, frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T C h w"]:
        """Return latents z + (z - E(D(z))), z = E(frames): what encoding loses is added before.

        Section 4.2's fidelity-oriented encoding; only where decoding comes near the frame.
        """
        z = self.encode(frames)
        back = self.decode(z)
        lost = (back - frames).abs().mean(dim=2) > MOST_LOST
        fits = torch.stack([~cover_mask(each, (z.shape[-2], z.shape[-1])) for each in lost])
        return z + fits[:, :, None] * (z - self.encode(back))


@dataclass(frozen=True, kw_only=True)
class ColorFusion:
    """Edit of x_0: late, all frames get the first one's mean and spread of each channel."""

    def __call__(self, step: Step, x0: Float[Tensor, "B T C h w"]) -> Float[Tensor, "B T C h w"]:
        """Return x_0 with the first frame's statistics."""
        if x0.shape[1] < 2 or not acts(COLOR, step):
            return x0
        like = with_statistics(x0[:, 1:], x0[:, :1].expand_as(x0[:, 1:]))
        return torch.cat((x0[:, :1], like), dim=1)


def _softened(hidden: Bool[Tensor, "K H W"]) -> Float[Tensor, "K 1 H W"]:
    """Return 1 where something is hidden and around it, falling off over a few pixels."""
    half = _EDGE_PX // 2
    grown = F.max_pool2d(hidden[:, None].float(), _EDGE_PX, stride=1, padding=half)
    at = torch.arange(-half, half + 1, device=hidden.device)
    bell = torch.exp(-0.5 * (at / _EDGE_SIGMA) ** 2)
    bell = bell / bell.sum()
    padded = F.pad(grown, (half, half, half, half), mode="replicate")
    return F.conv2d(F.conv2d(padded, bell.view(1, 1, 1, -1)), bell.view(1, 1, -1, 1))
