"""Attention along time: every pixel position looks at itself in the other frames.

Tokens arrive as `BT P C` (P positions of every frame). Norms, projections and feed-forwards act on
single tokens and keep that order; only queries, keys and values are regrouped by position.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from legato.models.linear import linear
from legato.models.positions import (
    RelativePositionBias,
    RotaryPositions,
    SinusoidalPositions,
    zero_,
)
from legato.models.temporal_conv import TimeMixer

PositionKind = Literal["mlp-sin", "rope", "none"]


class TimeAttention(nn.Module):
    """Multi-head self-attention over the T frames of each position.

    Parameter names of diffusers' `Attention`; the output projection starts as zero.

    Args:
        width: channels of a token.
        num_heads: heads; `width` is a multiple of it.
        rotary: queries and keys are turned by their frame's index (first 32 channels of a head).
        relative_bias: a learned score per frame distance is added.
        window: frames further apart than this do not see each other; None: all do.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        rotary: bool = False,
        relative_bias: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        zero_(self.to_out)
        self.rotary = RotaryPositions(min(32, width // num_heads)) if rotary else None
        self.time_rel_pos_bias = RelativePositionBias(num_heads) if relative_bias else None

    def forward(
        self, x: Float[Tensor, "BT P C"], num_frames: int, window: int | None = None
    ) -> Float[Tensor, "BT P C"]:
        """Return softmax(q k' / sqrt(d) + bias) v, projected, for every position on its own.

        Args:
            x: tokens.
            num_frames: of a clip.
            window: as at the construction, for this call; the narrower of both counts.
        """
        weight = torch.cat((self.to_q.weight, self.to_k.weight, self.to_v.weight))
        order = "(b t) p (three n d) -> three (b p) n t d"
        qkv = rearrange(linear(x, weight, None), order, three=3, n=self.num_heads, t=num_frames)
        if self.rotary is not None:
            qk, v = self.rotary(qkv[:2]), qkv[2]
            q, k = qk.unbind()
        else:
            q, k, v = qkv.unbind()
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(num_frames, q, window))
        positions = x.shape[1]
        out: Tensor = self.to_out[0](rearrange(mixed, "(b p) n t d -> (b t) p (n d)", p=positions))
        return out

    def _bias(self, num_frames: int, q: Tensor, window: int | None) -> Tensor | None:
        bias = None
        reach = min([num_frames, *[w for w in (self.window, window) if w is not None]])
        if self.time_rel_pos_bias is not None:
            bias = self.time_rel_pos_bias(num_frames)[None].to(q.dtype)
        if num_frames > reach + 1:
            near = window_mask(num_frames, reach, q.device)
            bias = near if bias is None else bias.masked_fill(~near, float("-inf"))
        return bias


class TextAttention(nn.Module):
    """Cross-attention of all tokens of a clip to its text (names of diffusers' `Attention`)."""

    def __init__(self, width: int, text_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = (nn.Linear(text_width, width, bias=False) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        zero_(self.to_out)

    def forward(
        self, x: Float[Tensor, "BT P C"], text: Float[Tensor, "B N D"]
    ) -> Float[Tensor, "BT P C"]:
        """Return what each token reads from its clip's text."""
        clips, positions = text.shape[0], x.shape[1]
        split = "b s (n d) -> b n s d"
        q = rearrange(self.to_q(x), "(b t) p (n d) -> b n (t p) d", b=clips, n=self.num_heads)
        k, v = (rearrange(f(text), split, n=self.num_heads) for f in (self.to_k, self.to_v))
        read = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.to_out[0](rearrange(read, "b n (t p) d -> (b t) p (n d)", p=positions))
        return out


class GatedProjection(nn.Module):
    """GEGLU: one half of a projection gated by GELU of the other (arXiv:2002.05202)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Float[Tensor, "BT P C"]) -> Float[Tensor, "BT P I"]:
        """Return value * gelu(gate)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * F.gelu(gate)
        return out


class FeedForward(nn.Module):
    """A gated two-layer network on single tokens whose output starts as zero.

    Parameter names of diffusers' `FeedForward`.
    """

    def __init__(self, width: int, multiple: int) -> None:
        super().__init__()
        inner = multiple * width
        self.net = nn.ModuleList(
            [GatedProjection(width, inner), nn.Identity(), nn.Linear(inner, width)]
        )
        zero_(self.net[2])

    def forward(self, x: Float[Tensor, "BT P C"]) -> Float[Tensor, "BT P C"]:
        """Return the network's output, without a residual."""
        for layer in self.net:
            x = layer(x)
        return x


@dataclass(frozen=True, kw_only=True)
class TransformerShape:
    """Which parts a `TemporalTransformer` has."""

    positions: PositionKind = "mlp-sin"
    """How a frame's index enters: an added vector, rotated queries and keys, or not at all."""
    ff_in: bool = True
    """Whether a feed-forward comes first."""
    ff_multiple: int = 4
    """Inner width of the feed-forwards as a multiple of the token's width."""
    window: int | None = None
    """Frames further apart than this do not attend to each other; None: all do."""


class TemporalTransformer(nn.Module):
    """The temporal block that follows a spatial transformer block.

    u = x + p; u += FF_in(LN u); u += SelfAttention_t(LN u); u += CrossAttention(LN u, text);
    u += FF(LN u); it adds (1 - alpha)(u - x). Parameter names of Stable Video Diffusion's temporal
    blocks; every output projection starts as zero.

    Args:
        width: channels of a token.
        num_heads: as in the spatial block.
        text_width: width of the text that is attended to; None: no cross-attention.
        shape: which parts there are.
        mixer: learned alpha; None: the difference is added as it is.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        text_width: int | None,
        shape: TransformerShape,
        mixer: TimeMixer | None = None,
    ) -> None:
        super().__init__()
        self.time_pos_embed = SinusoidalPositions(width) if shape.positions == "mlp-sin" else None
        self.norm_in = nn.LayerNorm(width) if shape.ff_in else None
        self.ff_in = FeedForward(width, shape.ff_multiple) if shape.ff_in else None
        self.norm1 = nn.LayerNorm(width)
        rotary = shape.positions == "rope"
        self.attn1 = TimeAttention(width, num_heads, rotary=rotary, window=shape.window)
        self.norm2 = nn.LayerNorm(width) if text_width else None
        self.attn2 = TextAttention(width, text_width, num_heads) if text_width else None
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width, shape.ff_multiple)
        self.time_mixer = mixer

    def forward(
        self,
        x: Float[Tensor, "BT P C"],
        num_frames: int,
        text: Float[Tensor, "B N D"] | None = None,
        window: int | None = None,
    ) -> Float[Tensor, "BT P C"]:
        """Return what is added to x; `window` as in `TimeAttention`."""
        u = x
        if self.time_pos_embed is not None:
            clips = x.shape[0] // num_frames
            u = u + self.time_pos_embed(num_frames).to(x.dtype).repeat(clips, 1)[:, None]
        if self.ff_in is not None and self.norm_in is not None:
            u = u + self.ff_in(self.norm_in(u))
        u = u + self.attn1(self.norm1(u), num_frames, window)
        if self.attn2 is not None and self.norm2 is not None and text is not None:
            u = u + self.attn2(self.norm2(u), text)
        u = u + self.ff(self.norm3(u))
        delta: Tensor = (u - x).to(x.dtype)
        if self.time_mixer is not None:
            delta = self.time_mixer(delta, num_frames)
        return delta


class PreFeedForwardAttention(nn.Module):
    """Upscale-A-Video's temporal self-attention inside a spatial block, before its feed-forward.

    Partly rotated queries and keys and a learned relative bias; parameter names of the release.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm_temporal = nn.LayerNorm(width)
        self.attn_temporal = TimeAttention(width, num_heads, rotary=True, relative_bias=True)

    def forward(
        self, x: Float[Tensor, "BT P C"], num_frames: int, text: None = None
    ) -> Float[Tensor, "BT P C"]:
        """Return what is added to x."""
        out: Tensor = self.attn_temporal(self.norm_temporal(x), num_frames)
        return out


def window_mask(num_frames: int, window: int, device: torch.device) -> Bool[Tensor, "T T"]:
    """Return True where two frames are at most `window` apart."""
    index = torch.arange(num_frames, device=device)
    return (index[:, None] - index[None, :]).abs() <= window
