"""AnimateDiff's motion modules: attention along time behind each spatial transformer.

Guo et al. 2023, arXiv:2307.04725, section 4.2; parameter names of diffusers' `MotionAdapter`.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import InputError
from legato.models.positions import interleaved_sinusoids, zero_
from legato.models.temporal_attention import FeedForward, TimeAttention
from legato.models.temporal_conv import as_clip, norm_clip


@dataclass(frozen=True, kw_only=True)
class MotionShape:
    """What all motion modules of one model have in common."""

    num_heads: int = 8
    """Heads of each attention."""
    num_blocks: int = 1
    """Transformer blocks in a module."""
    norm_groups: int = 32
    """Groups of its first norm, whose statistics span the clip."""
    max_frames: int = 32
    """Frame indices that it has positions for."""


class MotionBlock(nn.Module):
    """Two self-attentions over the frames of each position, then a gated feed-forward.

    u += Attention_t(LN(u) + p), twice; u += FF(LN(u)); p is the sinusoid of the frame's index.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = (TimeAttention(width, num_heads) for _ in range(2))
        self.ff = FeedForward(width, 4)
        for layer in (self.attn1.to_out[0], self.attn2.to_out[0], self.ff.net[2]):
            assert isinstance(layer, nn.Linear)
            layer.reset_parameters()  # only the module's own last layer starts as zero

    def forward(
        self, u: Float[Tensor, "BT P C"], position: Float[Tensor, "BT 1 C"], num_frames: int
    ) -> Float[Tensor, "BT P C"]:
        """Return the tokens with what the block adds."""
        u = u + self.attn1(self.norm1(u) + position, num_frames)
        u = u + self.attn2(self.norm2(u) + position, num_frames)
        out: Tensor = u + self.ff(self.norm3(u))
        return out


class MotionModule(nn.Module):
    """GroupNorm over the clip, projection in, blocks, projection out, which starts as zero.

    Args:
        channels: width going in and coming out.
        shape: what it is made of.
    """

    def __init__(self, channels: int, shape: MotionShape) -> None:
        super().__init__()
        self.max_frames = shape.max_frames
        self.norm = nn.GroupNorm(shape.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            MotionBlock(channels, shape.num_heads) for _ in range(shape.num_blocks)
        )
        self.proj_out = nn.Linear(channels, channels)
        zero_(self.proj_out)

    def forward(
        self, x: Float[Tensor, "BT C h w"], num_frames: int, second: object = None
    ) -> Float[Tensor, "BT C h w"]:
        """Return what is added to x.

        Raises:
            InputError: the clip has more frames than there are positions.
        """
        if num_frames > self.max_frames:
            raise InputError(
                f"num_frames={num_frames}",
                why=f"these motion modules have positions for {self.max_frames} frames",
                fix=f"give them at most {self.max_frames} frames at a time",
            )
        frames, channels, height, width = x.shape
        rows = norm_clip(self.norm, as_clip(x, num_frames)).permute(0, 2, 3, 1)
        tokens = self.proj_in(rows.reshape(frames, height * width, channels))
        position = interleaved_sinusoids(num_frames, channels, x.device).to(tokens.dtype)
        position = position.repeat(frames // num_frames, 1)[:, None]
        for block in self.transformer_blocks:
            tokens = block(tokens, position, num_frames)
        out: Tensor = self.proj_out(tokens)
        return out.view(frames, height, width, channels).permute(0, 3, 1, 2)
