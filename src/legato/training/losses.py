"""What makes a restored picture look right: colours, texture, no lattice, and no flicker."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from legato.axes import LUMA
from legato.evaluation.lpips import PerceptualDistance
from legato.flow.warp import warp

DB2 = (0.48296291, 0.83651630, 0.22414387, -0.12940952)
"""Low-pass taps of Daubechies' wavelet of two vanishing moments."""
SENSITIVITY = (0.45, 0.75, 0.95, 1.0)
"""Of the eye to wavelet bands of luma, the finest first; our choice."""
DIAGONAL_SENSITIVITY = 0.4
"""The same of diagonal ones, as a share of upright ones."""
REDUCED_SHARE = 0.2
"""How often the perceptual term sees reduced copies, where a lattice of four pixels shows."""


@dataclass(frozen=True, kw_only=True)
class PixelLossWeights:
    """Weights of `PixelLoss`; the perceptual term is measured where the lattice cannot hide."""

    perceptual: float = 1.6
    """LPIPS of copies shifted by 0 to 7 pixels, sometimes reduced to 0.45 to 0.8 too."""
    spectral: float = 0.03
    """L1 distance of log(|FFT| + 0.05)."""
    grain: float = 1.5
    """Excess over the truth of the local amplitude of fine texture."""
    lattice: float = 0.01
    """Excess over the truth of log power at 1/4 and 1/2 cycle per pixel over its neighbours."""
    detail: float = 0.1
    """Share of the truth's wavelet amplitudes that is missing."""

    @classmethod
    def plain(cls, *, perceptual: float) -> "PixelLossWeights":
        """Return the weights of L1 and LPIPS alone."""
        return cls(perceptual=perceptual, spectral=0.0, grain=0.0, lattice=0.0, detail=0.0)


class PixelLoss:
    """L1 and perceptual loss of frames in [-1, 1], and the terms of `TERMS`.

    LPIPS at a fixed phase rewards a 4-pixel lattice that the eye sees at once; hence the random
    shift and reduction, and terms that look at spectrum and bands. Without `distance` the
    perceptual term is left out, and so is every term of weight 0.
    """

    def __init__(self, weights: PixelLossWeights, distance: PerceptualDistance | None) -> None:
        self.weights, self.distance = weights, distance

    def __call__(
        self,
        frames: Float[Tensor, "N 3 H W"],
        truth: Float[Tensor, "N 3 H W"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return the weighted sum and its parts."""
        parts = {"l1": (frames - truth).abs().mean()}
        for name, measure in TERMS.items():
            if weight := getattr(self.weights, name):
                parts[name] = weight * measure(frames, truth)
        if self.distance is not None:
            ours, true = shifted_and_reduced(torch.cat((frames, truth)), generator).chunk(2)
            parts["lpips"] = self.weights.perceptual * self.distance(ours, true.detach()).mean()
        total = torch.stack(list(parts.values())).sum()
        return total, {name: float(part.detach()) for name, part in parts.items()}


def shifted_and_reduced(
    frames: Float[Tensor, "N 3 H W"], generator: torch.Generator
) -> Float[Tensor, "N 3 H2 W2"]:
    """Cut 0 to 7 pixels off the top and left; in some of the draws reduce to 0.45 to 0.8 too."""
    top, left = torch.randint(0, 8, (2,), generator=generator).tolist()
    shifted = frames[..., top:, left:]
    draw = torch.rand((), generator=generator).item()
    if draw >= REDUCED_SHARE:
        return shifted
    scale = 0.45 + 0.35 * draw / REDUCED_SHARE
    return F.interpolate(shifted, scale_factor=scale, mode="bilinear", antialias=True)


def spectral_distance(
    frames: Float[Tensor, "N 3 H W"], truth: Float[Tensor, "N 3 H W"]
) -> Float[Tensor, ""]:
    """L1 distance of log amplitude spectra: the right amount of texture, wherever it lies.

    The floor lies above the grain of the truth, which would come back as a regular weave.
    """
    log_spectra = [(torch.fft.rfft2(x, norm="ortho").abs() + 0.05).log() for x in (frames, truth)]
    distance: Tensor = (log_spectra[0] - log_spectra[1]).abs().mean()
    return distance


def grain_excess(
    frames: Float[Tensor, "N 3 H W"], truth: Float[Tensor, "N 3 H W"]
) -> Float[Tensor, ""]:
    """Mean of max(0, a - a'), a the root mean square of fine texture over blocks of 8 pixels.

    A weave too faint for L1 shows in smooth places, where the truth has none.
    """
    return F.relu(_amplitude(frames) - _amplitude(truth)).mean()


def texture_deficit(
    frames: Float[Tensor, "N 3 H W"], truth: Float[Tensor, "N 3 H W"]
) -> Float[Tensor, ""]:
    """Mean of max(0, a' - a), a as in `grain_excess`: fine texture of the truth that is not shown.

    Where it lies within a block does not matter: a texture that cannot be known may be invented.
    """
    return F.relu(_amplitude(truth) - _amplitude(frames)).mean()


def _amplitude(x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 1 h w"]:
    fine = x - F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return (F.avg_pool2d(fine.square().mean(dim=1, keepdim=True), 8) + 1e-6).sqrt()


def lattice_excess(
    frames: Float[Tensor, "N 3 H W"], truth: Float[Tensor, "N 3 H W"]
) -> Float[Tensor, ""]:
    """Sum over axes and lines of max(0, log line ratio of frames - that of the truth)."""
    excess = [
        F.relu(a - b)
        for axis in (-1, -2)
        for a, b in zip(line_ratios(frames, axis), line_ratios(truth, axis), strict=True)
    ]
    return torch.stack(excess).sum()


def line_ratios(frames: Float[Tensor, "N 3 H W"], axis: int) -> list[Float[Tensor, ""]]:
    """Return log(power at 1/4 and 1/2 cycle per pixel / mean power nearby) along an axis.

    Of circular first differences of luma; nearby: within 1/24 of the sampling rate, without the
    line and its two neighbours.
    """
    luma = _luma(frames)[:, 0]
    difference = luma - luma.roll(1, axis)
    power = torch.fft.rfft(difference, dim=axis).abs().square().movedim(axis, -1)
    power = power.reshape(-1, power.shape[-1]).mean(dim=0) + 1e-8
    size, reach = frames.shape[axis], max(2, frames.shape[axis] // 24)
    ratios = []
    for line in (size // 4, size // 2):
        near = [k for k in range(line - reach, line + reach + 1) if abs(k - line) > 1]
        near = [k for k in near if k < len(power)]
        ratios.append(power[line].log() - power[near].mean().log())
    return ratios


def detail_loss(
    frames: Float[Tensor, "N 3 H W"], truth: Float[Tensor, "N 3 H W"]
) -> Float[Tensor, ""]:
    """1 - the share of the truth's detail that the frames show, whatever else they show.

    L1 keeps contrast back wherever the network is not sure, and the eye misses it. Of each wavelet
    coefficient of luma at most the truth's own counts; magnitudes are pooled by cubes. After Li et
    al. 2011, "Image quality assessment by separately evaluating detail losses and additive
    impairments", without its masking.
    """
    kept, whole = frames.new_zeros(len(frames)), frames.new_zeros(len(frames))
    ours, true = (_luma(x) for x in (frames, truth))
    for sensitivity in SENSITIVITY:
        (ours, details), (true, true_details) = _wavelet(ours), _wavelet(true)
        weights = frames.new_tensor((sensitivity, sensitivity, sensitivity * DIAGONAL_SENSITIVITY))
        upper, lower = true_details.clamp(min=0), true_details.clamp(max=0)
        shown = torch.minimum(torch.maximum(details, lower), upper)
        kept = kept + (_cubic_sum(shown) * weights).sum(dim=1)
        whole = whole + (_cubic_sum(true_details) * weights).sum(dim=1)
    return (1 - kept / whole).mean()


def _luma(frames: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 1 H W"]:
    return torch.stack([w * frames[:, c] for c, w in enumerate(LUMA)]).sum(dim=0)[:, None]


def _wavelet(
    x: Float[Tensor, "N 1 H W"],
) -> tuple[Float[Tensor, "N 1 h w"], Float[Tensor, "N 3 h w"]]:
    """Return one level's low band, and its bands of horizontal, vertical and diagonal change."""
    low = x.new_tensor(DB2)
    high = low.flip(0) * x.new_tensor((1.0, -1.0, 1.0, -1.0))
    pairs = ((low, low), (low, high), (high, low), (high, high))
    filters = torch.stack([torch.outer(rows, cols) for rows, cols in pairs])[:, None]
    bands = F.conv2d(F.pad(x, (1, 2, 1, 2), mode="replicate"), filters, stride=2)
    return bands[:, :1], bands[:, 1:]


def _cubic_sum(x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C"]:
    return (x.abs().pow(3).sum(dim=(2, 3)) + 1e-12).pow(1 / 3)


def flicker_loss(
    frames: Float[Tensor, "B T 3 H W"], truth: Float[Tensor, "B T 3 H W"]
) -> Float[Tensor, ""]:
    """Mean absolute error of the changes over time of luma, averaged over blocks of 8x8 pixels.

    What `evaluation.steadiness.flicker` measures, in half ranges.
    """
    luma = _luma(rearrange(frames - truth, "b t c h w -> (b t) c h w"))
    blocks = rearrange(F.avg_pool2d(luma, 8), "(b t) 1 h w -> b t h w", b=len(frames))
    return blocks.diff(dim=1).abs().mean()


def warping_loss(
    frames: Float[Tensor, "B T 3 H W"],
    flow: Float[Tensor, "B T-1 2 H W"],
    visible: Float[Tensor, "B T-1 1 H W"],
) -> Float[Tensor, ""]:
    """Mean squared difference of each frame and the next one warped onto it, where visible.

    The training form of the warping error (Lai et al. 2018, arXiv:1808.00449, section 4.2); the
    flow is that of the truth, forward.
    """
    now = rearrange(frames[:, :-1], "b t c h w -> (b t) c h w")
    following = rearrange(frames[:, 1:], "b t c h w -> (b t) c h w")
    moved = warp(following, rearrange(flow, "b t c h w -> (b t) c h w"), padding="border")
    mask = rearrange(visible, "b t c h w -> (b t) c h w")
    return ((moved - now).square() * mask).sum() / (3 * mask.sum() + 1)


TERMS = {
    "spectral": spectral_distance,
    "grain": grain_excess,
    "lattice": lattice_excess,
    "detail": detail_loss,
}
"""Terms of `PixelLoss` by the names of their weights."""
