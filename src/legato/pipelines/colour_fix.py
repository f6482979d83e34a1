"""Give the output the input's colours: a diffusion model is free to shift them.

All corrections are per frame, so they work on a stream.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.axes import LUMA

ColourFix = Literal["wavelet", "adain", "none"]
LEVELS = 5
REDUCTION = 4
EPSILON = 1e-5

REACH = 5
"""Rows and columns of input pixels around one whose colours a place may have."""
MARGIN = 1 / 127.5
"""Of chroma beyond those, one grey level."""
OVERSHOOT = 0.5
"""The same as a share of their range: the input is blurred, what is restored is not."""
PALE, COLOURFUL = 4 / 127.5, 8 / 127.5
"""Standard deviations of a frame's chroma, up to which it is bounded and from which it is not:
there it would hardly change a thing, and takes time."""


def fix_colours(
    frames: Float[Tensor, "T 3 sH sW"], low_res: Float[Tensor, "T 3 H W"], *, method: ColourFix
) -> Float[Tensor, "T 3 sH sW"]:
    """Correct output frames against the input, enlarged bicubically.

    Args:
        frames: output in [-1, 1].
        low_res: input in [-1, 1].
        method: `wavelet`, `adain`, or `none`, which returns the frames.
    """
    if method == "none":
        return frames
    if method == "wavelet" and frames.shape[-1] == REDUCTION * low_res.shape[-1]:
        return _wavelet_reduced(frames, low_res)
    pairs = [(frames[k : k + 1], low_res[k : k + 1]) for k in range(frames.shape[0])]
    fix = wavelet if method == "wavelet" else adain
    size = frames.shape[-2:]
    return torch.cat(
        [fix(frame, F.interpolate(small, size=size, mode="bicubic")) for frame, small in pairs]
    )


def bound_chroma(
    frames: Float[Tensor, "T 3 sH sW"], low_res: Float[Tensor, "T 3 H W"]
) -> Float[Tensor, "T 3 sH sW"]:
    """Keep Cb and Cr (BT.601) of pale frames near those of the input around; luma stays.

    What is drawn anew comes with colours of its own: a film in black and white would get tinted
    edges.

    Args:
        frames: output in [-1, 1]; used up.
        low_res: input in [-1, 1].
    """
    small = torch.cat(_chroma(low_res), dim=1)
    spread = small.std(dim=(2, 3), correction=0).amax(dim=1)
    share = ((COLOURFUL - spread) / (COLOURFUL - PALE)).clamp(0, 1)
    if not share.any():
        return frames
    highest = F.max_pool2d(small, REACH, stride=1, padding=REACH // 2)
    lowest = -F.max_pool2d(-small, REACH, stride=1, padding=REACH // 2)
    room = MARGIN + OVERSHOOT * (highest - lowest)
    bounds = torch.cat((lowest - room, highest + room), dim=1)
    low, high = F.interpolate(bounds, size=frames.shape[-2:], mode="bilinear").chunk(2, dim=1)
    changes = []
    for k, chroma in enumerate(_chroma(frames)):
        bounded = torch.clamp(chroma, low[:, k : k + 1], high[:, k : k + 1])
        changes.append(bounded.sub_(chroma).mul_(share[:, None, None, None]))
    blue, red = changes
    frames[:, 0:1].add_(red, alpha=1.402)
    frames[:, 1:2].add_(blue, alpha=-0.344136).add_(red, alpha=-0.714136)
    frames[:, 2:3].add_(blue, alpha=1.772)
    return frames


def luma_of(frames: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "T 1 H W"]:
    """Return Y of BT.601."""
    red, green, blue = (frames[:, k : k + 1] for k in range(3))
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _chroma(frames: Float[Tensor, "T 3 H W"]) -> tuple[Tensor, Tensor]:
    """Return Cb and Cr of BT.601, each `T 1 H W`."""
    luma = luma_of(frames)
    return (frames[:, 2:3] - luma).mul_(0.5643), luma.sub_(frames[:, 0:1]).mul_(-0.7133)


def wavelet(
    content: Float[Tensor, "N C H W"], style: Float[Tensor, "N C H W"]
) -> Float[Tensor, "N C H W"]:
    """Return the content's detail over the style's slow variations: content + low(style - content).

    low is five blurs with [1 2 1] x [1 2 1] / 16, dilated 1, 2, 4, 8, 16 (the a-trous wavelet of
    StableSR, Wang et al. 2023, arXiv:2305.07015, section 3.3). High bands plus the last low band
    telescope to this, because every blur is linear: half the work.
    """
    low = style - content
    for level in range(LEVELS):
        low = blur(blur(low, 2**level, axis=-2), 2**level, axis=-1)
    return content + low


def adain(
    content: Float[Tensor, "N C H W"], style: Float[Tensor, "N C H W"]
) -> Float[Tensor, "N C H W"]:
    """Return the content with the style's mean and deviation, per frame and channel.

    Huang and Belongie 2017, arXiv:1703.06868, eq. 8; unbiased variance + 1e-5.
    """
    mean, deviation = _moments(content)
    style_mean, style_deviation = _moments(style)
    return (content - mean) / deviation * style_deviation + style_mean


def _wavelet_reduced(
    content: Float[Tensor, "N C sH sW"], low_res: Float[Tensor, "N C H W"]
) -> Float[Tensor, "N C sH sW"]:
    """Return what `wavelet` gives against the enlarged input, within two grey levels, faster.

    The three widest blurs are done at the input's size, dilated 1, 2, 4 there; reducing by
    area and enlarging linearly stands in for the two narrowest: variances 3.9 and 2.5 square pixels
    of 170 in all.
    """
    low = low_res - F.avg_pool2d(content, REDUCTION)
    for level in range(LEVELS - 2):
        low = blur(blur(low, 2**level, axis=-2), 2**level, axis=-1)
    return F.interpolate(low, scale_factor=REDUCTION, mode="bilinear").add_(content)


def blur(x: Float[Tensor, "N C H W"], reach: int, *, axis: int) -> Float[Tensor, "N C H W"]:
    """[1 2 1] / 4 with a step of `reach` along one axis, the border repeated."""
    length = x.shape[axis]
    margins = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
    padded = F.pad(x, margins, mode="replicate")
    outer = padded.narrow(axis, 0, length) + padded.narrow(axis, 2 * reach, length)
    return outer.mul_(0.25).add_(x, alpha=0.5)


def _moments(x: Float[Tensor, "N C H W"]) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x.float(), dim=(-2, -1), keepdim=True)
    return mean, (variance + EPSILON).sqrt()
