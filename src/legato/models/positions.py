"""Positions along time: sinusoids, alone or through an MLP, rotated queries and keys, learned bias.

All act on T frame indices 0..T-1 counted within the clip or window that is being processed.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

PERIOD = 10000.0


def sinusoids(num_frames: int, width: int, device: torch.device) -> Float[Tensor, "T D"]:
    """Return cosines, then sines, of the frame index at `width // 2` frequencies, float32.

    e[i, j] = cos(i w_j), e[i, D/2 + j] = sin(i w_j), w_j = 10000^(-2j/D)
    (Vaswani et al. 2017, arXiv:1706.03762, section 3.5; cosines first as in diffusers).
    """
    return waves(torch.arange(num_frames, dtype=torch.float32, device=device), width)


def waves(values: Float[Tensor, "n"] | Int[Tensor, "n"], width: int) -> Float[Tensor, "n D"]:
    """Return cosines, then sines, of any numbers; frequencies as in `sinusoids`."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    frequencies = torch.exp(-math.log(PERIOD) * steps / half)
    angles = values.float()[:, None] * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))


def interleaved_sinusoids(
    num_frames: int, width: int, device: torch.device
) -> Float[Tensor, "T D"]:
    """Return the same numbers with sine and cosine of one frequency side by side, sines first.

    e[i, 2j] = sin(i w_j), e[i, 2j + 1] = cos(i w_j) (Vaswani et al. 2017, section 3.5).
    """
    cosines, sines = sinusoids(num_frames, width, device)[:, : width - width % 2].chunk(2, dim=-1)
    waves = torch.stack([sines, cosines], dim=-1).flatten(1)
    return F.pad(waves, (0, width % 2))


class SinusoidalPositions(nn.Module):
    """One vector per frame: an MLP of the frame index's sinusoid, which starts as zero.

    Stable Video Diffusion's `time_pos_embed` (same parameter names); the last layer is zero here so
    that a fresh temporal layer leaves the image model as it is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, 4 * width)
        self.linear_2 = nn.Linear(4 * width, width)
        zero_(self.linear_2)

    def forward(self, num_frames: int) -> Float[Tensor, "T D"]:
        """Return the vector of each of the frames 0..T-1."""
        waves = sinusoids(num_frames, self.width, self.linear_1.weight.device)
        hidden: Tensor = self.linear_2(F.silu(self.linear_1(waves.to(self.linear_1.weight.dtype))))
        return hidden


class RotaryPositions(nn.Module):
    """Rotate pairs of neighbouring channels by an angle that grows with the frame index.

    Channels (2j, 2j+1) of the first `width` channels turn by i theta_j, theta_j = 10000^(-2j/width)
    (Su et al. 2021, arXiv:2104.09864, eq. 15); the other channels stay. Nothing is learned.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width - width % 2

    def forward(self, x: Float[Tensor, "*batch T d"]) -> Float[Tensor, "*batch T d"]:
        """Return queries or keys turned according to their frame's index."""
        width, (num_frames, channels) = self.width, x.shape[-2:]
        pairs = torch.arange(0, width, 2, dtype=torch.float32, device=x.device)
        angles = torch.arange(num_frames, dtype=torch.float32, device=x.device)[:, None]
        angles = (angles * PERIOD ** (-pairs / width)).repeat_interleave(2, dim=1)
        cos, sin = angles.cos(), angles.sin()
        sin[:, 0::2] *= -1
        still = (0, channels - width)
        cos, sin = F.pad(cos, still, value=1.0).to(x.dtype), F.pad(sin, still).to(x.dtype)
        across = torch.arange(channels, device=x.device)
        across[:width] = across[:width] ^ 1  # the other channel of the pair
        return torch.addcmul(x * cos, x[..., across], sin)


class RelativePositionBias(nn.Module):
    """A learned score per head and bucket of frame distance.

    Distances below a quarter of the buckets have their own bucket, larger ones share logarithmic
    buckets up to `max_distance`; past and future are told apart (Raffel et al. 2020,
    arXiv:1910.10683, section 2.1).
    """

    def __init__(self, num_heads: int, num_buckets: int = 32, max_distance: int = 32) -> None:
        super().__init__()
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.relative_attention_bias = nn.Embedding(num_buckets, num_heads)
        zero_(self.relative_attention_bias)

    def forward(self, num_frames: int) -> Float[Tensor, "heads T T"]:
        """Return what is added to the attention scores of T queries and T keys."""
        index = torch.arange(num_frames, device=self.relative_attention_bias.weight.device)
        bias: Tensor = self.relative_attention_bias(self.buckets(index[:, None] - index[None, :]))
        return bias.permute(2, 0, 1)

    def buckets(self, distance: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """Return the bucket of each distance (query's frame index minus key's)."""
        half = self.num_buckets // 2
        exact = half // 2
        size = distance.abs()
        scale = (half - exact) / math.log(self.max_distance / exact)
        far = exact + (torch.log(size.clamp(min=1).float() / exact) * scale).long()
        bucket = torch.where(size < exact, size, far.clamp(max=half - 1))
        return bucket + half * (distance < 0)


def zero_(layer: nn.Module) -> None:
    """Set every parameter of the layer to zero, in place."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
