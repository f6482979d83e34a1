"""Spatial blocks that compute a few frames at a time on a CPU, where each is computed by itself.

What lies between then takes a part of the memory, and stays in the cache (docs/decisions/0014).
With gradients everything is kept for the backward pass, so nothing would be won.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UpBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from legato.device import KEPT_BYTES, return_freed_memory
from legato.models.hooks import replace_forward
from legato.models.temporal_conv import silu_

ELEMENTS_AT_A_TIME = 1 << 21
"""Of a spatial block's input: 1 frame of 32 channels at 320 x 180, which stays in the cache."""


class FewFrames:
    """Stands in for a `ResnetBlock2D`'s forward: a few frames at a time, and in place.

    Args:
        block: the block.
        together: whether its norms see the whole clip, so that frames cannot be parted.
    """

    def __init__(self, block: ResnetBlock2D, *, together: bool) -> None:
        self.block, self.together = block, together

    def __call__(
        self, input_tensor: Tensor | tuple[Tensor, ...], temb: Tensor | None = None
    ) -> Tensor:
        """Return the block's output for `N C h w`, or for several that are to be joined."""
        parts = input_tensor if isinstance(input_tensor, tuple) else (input_tensor,)
        forward: Callable[..., Tensor] = partial(ResnetBlock2D.forward, self.block)
        frames, size = len(parts[0]), sum(part[0].numel() for part in parts)
        few = max(ELEMENTS_AT_A_TIME // size, 1)
        if _is_whole(parts[0]) or few >= frames:
            return forward(_joined(parts), temb)
        few = frames if self.together else few
        pieces = [slice(start, start + few) for start in range(0, frames, few)]
        inputs = (
            (_joined([part[k] for part in parts]), None if temb is None else temb[k])
            for k in pieces
        )
        if not _is_plain(self.block):
            return torch.cat([forward(*given) for given in inputs])
        out = torch.empty(
            (frames, self.block.conv2.out_channels, *parts[0].shape[2:]),
            dtype=parts[0].dtype,
            memory_format=torch.channels_last,
        )
        for k, given in zip(pieces, inputs, strict=True):
            self._compute(*given, out[k])
        return out

    def _compute(self, x: Tensor, temb: Tensor | None, out: Tensor) -> None:
        """Do as a plain block's own forward, in place, into `out`."""
        block = self.block
        hidden = block.conv1(silu_(block.norm1(x)))
        if block.time_emb_proj is not None and temb is not None:
            hidden += block.time_emb_proj(block.nonlinearity(temb))[:, :, None, None]
        hidden = block.conv2(silu_(block.norm2(hidden)))
        torch.add(x if block.conv_shortcut is None else block.conv_shortcut(x), hidden, out=out)


class FewFramesUp:
    """Stands in for an `UpBlock2D`'s forward: skip tensors join a few frames at a time.

    Args:
        block: the block.
    """

    def __init__(self, block: UpBlock2D) -> None:
        self.block = block

    def __call__(
        self,
        hidden_states: Tensor,
        res_hidden_states_tuple: tuple[Tensor, ...],
        temb: Tensor | None = None,
        upsample_size: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the block's output for `N C h w` and the skip tensors, the last one first."""
        has_freeu = getattr(self.block, "s1", None) is not None  # it weighs what is joined
        if _is_whole(hidden_states) or has_freeu:
            whole: Tensor = UpBlock2D.forward(
                self.block, hidden_states, res_hidden_states_tuple, temb, upsample_size
            )
            return whole
        for resnet, skip in zip(self.block.resnets, reversed(res_hidden_states_tuple), strict=True):
            hidden_states = resnet((hidden_states, skip), temb)
        for upsampler in self.block.upsamplers or ():
            hidden_states = upsampler(hidden_states, upsample_size)
        return hidden_states


class FewFramesUpsample:
    """Stands in for an `Upsample2D`'s forward: a few frames at a time.

    Freed memory goes back before a large map, as in the widest block, where the U-Net's peak is:
    what lies in the holes of narrower blocks would add to it.

    Args:
        block: the block.
    """

    def __init__(self, block: Upsample2D) -> None:
        self.block = block

    def __call__(self, hidden_states: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return the block's output for `N C h w`."""
        forward: Callable[..., Tensor] = partial(Upsample2D.forward, self.block)
        frames = len(hidden_states)
        few = max(ELEMENTS_AT_A_TIME // (4 * hidden_states[0].numel()), 1)
        if _is_whole(hidden_states) or few >= frames:
            return forward(hidden_states, output_size)
        if 4 * hidden_states.nbytes > KEPT_BYTES:
            return_freed_memory()
        out: Tensor | None = None
        for start in range(0, frames, few):
            piece = forward(hidden_states[start : start + few], output_size)
            if out is None:
                out = torch.empty(
                    (frames, *piece.shape[1:]),
                    dtype=piece.dtype,
                    memory_format=torch.channels_last,
                )
            out[start : start + few] = piece
        assert out is not None
        return out


class FewFramesFeedForward:
    """Stands in for a `FeedForward`'s forward: a few frames at a time.

    Args:
        block: the block; between its layers there is eight times what goes in.
    """

    def __init__(self, block: FeedForward) -> None:
        self.block = block

    def __call__(self, hidden_states: Tensor) -> Tensor:
        """Return the block's output for `N P C`."""
        few = max(ELEMENTS_AT_A_TIME // (8 * hidden_states[0].numel()), 1)
        pieces = [hidden_states]
        if not _is_whole(hidden_states):
            pieces = list(torch.split(hidden_states, few))
        done = [FeedForward.forward(self.block, piece) for piece in pieces]
        return done[0] if len(done) == 1 else torch.cat(done)


def _is_whole(x: Tensor) -> bool:
    """Tell whether frames are not to be parted: nothing would be won."""
    return torch.is_grad_enabled() or x.device.type != "cpu"


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def _is_plain(block: ResnetBlock2D) -> bool:
    """Tell whether a block is of the usual kind: neither resamples, nor drops out, nor scales."""
    return (
        block.upsample is None
        and block.downsample is None
        and block.time_embedding_norm == "default"
        and not block.skip_time_act
        and isinstance(block.nonlinearity, nn.SiLU)
        and block.output_scale_factor == 1
        and not (block.training and block.dropout.p)
    )


def attach_few_frames(spatial: nn.Module, *, together: bool) -> list[Callable[[], None]]:
    """Let blocks save memory as the classes here do; return what undoes it."""
    removers = []
    if isinstance(last := getattr(spatial, "conv_act", None), nn.SiLU):
        removers.append(replace_forward(last, silu_))
    for module in list(spatial.modules()):
        if isinstance(module, ResnetBlock2D):
            removers.append(replace_forward(module, FewFrames(module, together=together)))
        elif isinstance(module, UpBlock2D):
            removers.append(replace_forward(module, FewFramesUp(module)))
        elif isinstance(module, FeedForward):
            removers.append(replace_forward(module, FewFramesFeedForward(module)))
        elif isinstance(module, Upsample2D):
            removers.append(replace_forward(module, FewFramesUpsample(module)))
    return removers
