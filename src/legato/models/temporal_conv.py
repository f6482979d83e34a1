"""Convolutions along time, for frames that are folded into the batch.

Frames arrive as `BT C H W`, channels-last in memory. Seen as `B C T P` (P = H W) the same memory is
a channels-last picture whose rows are frames, so that a (k,1,1) convolution is a 2-D convolution
with a (k,1) kernel, and GroupNorm on it takes its statistics over the whole clip: neither copies
anything.
"""

from typing import Literal, cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from legato.errors import InputError
from legato.models.norm_statistics import affine_of
from legato.models.positions import zero_
from legato.models.temporal_frames import activated, add_convolution_, pixels_of_frames

MixMode = Literal["scalar", "per_frame"]
VALUES_AT_A_TIME = 1 << 21
"""Of a map whose statistics are taken: 8 MB in float32."""


def as_clip(frames: Float[Tensor, "BT C H W"], num_frames: int) -> Float[Tensor, "B C T P"]:
    """View frames as clips: rows are frames, columns are pixels (a copy unless channels-last)."""
    rows = frames.permute(0, 2, 3, 1).contiguous()
    batch_frames, height, width, channels = rows.shape
    clips = rows.view(batch_frames // num_frames, num_frames, height * width, channels)
    return clips.permute(0, 3, 1, 2)


def as_frames(
    clip: Float[Tensor, "B C T P"], height: int, width: int
) -> Float[Tensor, "BT C {height} {width}"]:
    """Undo `as_clip`."""
    rows = clip.permute(0, 2, 3, 1)
    return rows.reshape(-1, height, width, clip.shape[1]).permute(0, 3, 1, 2)


class TimeConv(nn.Conv3d):
    """A (k,1,1) convolution with a Conv3d's weights, run in two dimensions on `as_clip` views."""

    def __init__(self, in_channels: int, out_channels: int, size: int = 3) -> None:
        super().__init__(in_channels, out_channels, (size, 1, 1), padding=(size // 2, 0, 0))

    def forward(
        self, input: Float[Tensor, "B C T P"], scale: Tensor | None = None
    ) -> Float[Tensor, "B D T P"]:
        """Convolve along T with zeros beyond the clip, times a scale if one is given."""
        weight, bias = self.weight.squeeze(-1), self.bias
        if scale is not None:
            scale = scale.to(weight.dtype)
            weight, bias = weight * scale, None if bias is None else bias * scale
        return F.conv2d(input, weight, bias, padding=(self.kernel_size[0] // 2, 0))


class ClipConv(nn.Conv3d):
    """A Conv3d that brings its zeros along time itself where the clip is shorter than the kernel.

    There oneDNN 3.12 leaves parts of the weights' gradient unwritten in bfloat16.
    """

    def forward(self, input: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T h w"]:
        """Convolve with zeros beyond the clip and the picture."""
        if input.shape[2] >= self.kernel_size[0]:
            return super().forward(input)
        time, *space = (int(side) for side in self.padding)
        padded = F.pad(input, (0, 0, 0, 0, time, time))
        return F.conv3d(padded, self.weight, self.bias, self.stride, (0, *space))


class TimeMixer(nn.Module):
    """How much of the temporal branch is added: 1 - alpha, alpha = sigmoid(mix_factor) learned.

    out = alpha z + (1 - alpha) z' = z + (1 - alpha) (z' - z)
    (Blattmann et al. 2023, arXiv:2304.08818, section 3.1); the second form leaves z untouched, bit
    for bit, where the branch adds nothing. `per_frame` keeps one alpha per frame.
    """

    def __init__(self, mode: MixMode = "scalar", num_frames: int = 1, initial: float = 0.5) -> None:
        super().__init__()
        self.mode = mode
        count = num_frames if mode == "per_frame" else 1
        self.mix_factor = nn.Parameter(torch.full((count,), initial))

    def weight(self) -> Float[Tensor, "n"]:
        """Return 1 - alpha, float32."""
        return torch.sigmoid(-self.mix_factor.float())

    def forward(
        self, delta: Float[Tensor, "BT *rest"], num_frames: int
    ) -> Float[Tensor, "BT *rest"]:
        """Scale the branch's difference z' - z.

        Raises:
            InputError: alphas per frame were trained for another number of frames.
        """
        weight = self.weight()
        if self.mode == "per_frame":
            if num_frames != len(weight):
                raise InputError(
                    f"num_frames={num_frames}",
                    why=f"this model mixes each of {len(weight)} frames by its own learned weight",
                    fix=f"give it {len(weight)} frames at a time",
                )
            weight = weight.repeat(delta.shape[0] // num_frames)
        return delta * weight.to(delta.dtype).view(-1, *[1] * (delta.ndim - 1))


class TemporalConv(nn.Module):
    """The residual block of (k,1,1) convolutions that follows a spatial ResBlock.

    h = Conv(SiLU(GN(x))); h += Linear(SiLU(temb)); h = Conv(SiLU(GN(h))); the norms' statistics
    span the clip. As in Video LDM and Stable Video Diffusion, with the parameter names of
    diffusers' `TemporalResnetBlock`; the last convolution starts as zero.

    Args:
        channels: width, best a multiple of the norms' 32 groups (else a divisor is taken).
        time_embedding: width of the time embedding; None: the block has none.
        sizes: kernel sizes along time of the two convolutions.
        mixer: scales what is added; None: it is added as it is.
        eps: of the norms.
        context_channels: of the context that may join x; None: none does.
    """

    def __init__(
        self,
        channels: int,
        time_embedding: int | None,
        *,
        sizes: tuple[int, int] = (3, 3),
        mixer: TimeMixer | None = None,
        eps: float = 1e-6,
        context_channels: int | None = None,
    ) -> None:
        super().__init__()
        groups = num_groups(channels)
        self.norm1 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv1 = TimeConv(channels, channels, sizes[0])
        self.time_emb_proj = nn.Linear(time_embedding, channels) if time_embedding else None
        self.norm2 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv2 = TimeConv(channels, channels, sizes[1])
        self.time_mixer: TimeMixer | None = mixer
        self.context = ContextJunction(context_channels, channels) if context_channels else None
        zero_(self.conv2)

    def forward(
        self,
        x: Float[Tensor, "BT C H W"],
        num_frames: int,
        temb: Float[Tensor, "BT E"] | None = None,
        given: Float[Tensor, "BT K h w"] | None = None,
    ) -> Float[Tensor, "BT C H W"]:
        """Return what is added to x; with a context c, z' = x + c + h(x + c)."""
        if self.context is None or given is None:
            return self._residual(x, num_frames, temb)
        joined = self.context(given, x)
        delta = self._residual(x + joined, num_frames, temb)
        added: Tensor = joined if self.time_mixer is None else self.time_mixer(joined, num_frames)
        return delta + added

    def _residual(
        self, x: Float[Tensor, "BT C H W"], num_frames: int, temb: Float[Tensor, "BT E"] | None
    ) -> Float[Tensor, "BT C H W"]:
        if self.adds_in_place_to(x):
            zeros = torch.zeros_like(x, memory_format=torch.channels_last)
            return self._add_by_frames_(zeros, x, num_frames, temb)
        hidden = self.conv1(silu_(norm_clip(self.norm1, as_clip(x, num_frames))))
        if self.time_emb_proj is not None and temb is not None:
            shift = self.time_emb_proj(F.silu(temb))
            hidden = add_(hidden, rearrange(shift, "(b t) c -> b c t 1", t=num_frames))
        hidden = silu_(norm_clip(self.norm2, hidden))
        return self.difference(hidden, num_frames, (x.shape[-2], x.shape[-1])).to(x.dtype)

    def adds_in_place_to(self, x: Float[Tensor, "BT C H W"]) -> bool:
        """Tell whether `add_to_` is for such frames, and faster than adding afterwards."""
        is_plain = x.device.type == "cpu" and x.dtype == torch.float32
        has_views = x.is_contiguous(memory_format=torch.channels_last)
        scales_frames = self.time_mixer is not None and self.time_mixer.mode == "per_frame"
        return is_plain and has_views and not torch.is_grad_enabled() and not scales_frames

    def add_to_(
        self,
        x: Float[Tensor, "BT C H W"],
        num_frames: int,
        temb: Float[Tensor, "BT E"] | None = None,
        given: Float[Tensor, "BT K h w"] | None = None,
    ) -> Float[Tensor, "BT C H W"]:
        """Add to x, in place, what `forward` returns, and return x."""
        if self.context is None or given is None:
            return self._add_by_frames_(x, x, num_frames, temb)
        joined = self.context(given, x)
        source = x + joined
        x += joined if self.time_mixer is None else self.time_mixer(joined, num_frames)
        return self._add_by_frames_(x, source, num_frames, temb)

    def _add_by_frames_(
        self,
        target: Float[Tensor, "BT C H W"],
        x: Float[Tensor, "BT C H W"],
        num_frames: int,
        temb: Float[Tensor, "BT E"] | None,
    ) -> Float[Tensor, "BT C H W"]:
        """Add the residual of x, frame by frame, to a target, in place; x itself may be it."""
        scale = 1.0 if self.time_mixer is None else float(self.time_mixer.weight())
        first, last = cast(Tensor, self.conv1.bias), cast(Tensor, self.conv2.bias) * scale
        shifts = first.expand(len(x), -1)
        if self.time_emb_proj is not None and temb is not None:
            shifts = first + self.time_emb_proj(F.silu(temb))
        for start in range(0, len(x), num_frames):
            clip = slice(start, start + num_frames)
            frames = pixels_of_frames(x[clip])
            hidden = [shift.repeat(len(frames[0]), 1) for shift in shifts[clip]]
            add_convolution_(hidden, self.conv1, activated(self.norm1, frames), scale=1.0)
            frames = pixels_of_frames(target[clip])
            for frame in frames:
                frame.add_(last)
            add_convolution_(frames, self.conv2, activated(self.norm2, hidden), scale=scale)
        return target

    def difference(
        self, hidden: Float[Tensor, "B C T P"], num_frames: int, size: tuple[int, int]
    ) -> Float[Tensor, "BT C H W"]:
        """Return the second convolution of what the second norm gave, mixed."""
        mixer = self.time_mixer
        if mixer is not None and mixer.mode == "scalar":  # cheaper on the weights
            return as_frames(self.conv2(hidden, mixer.weight()), *size)
        delta = as_frames(self.conv2(hidden), *size)
        return delta if mixer is None else mixer(delta, num_frames)


class ContextJunction(nn.Module):
    """Where the context c_S joins a temporal branch: resized, then a convolution without bias.

    It starts as zero, and a context of zeros always is no context, bit for bit (Blattmann et al.
    2023, arXiv:2304.08818, figure 4; kernel and junction are ours).
    """

    def __init__(self, context_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(context_channels, channels, 3, padding=1, bias=False)
        zero_(self.conv)

    def forward(
        self, given: Float[Tensor, "BT K h w"], x: Float[Tensor, "BT C H W"]
    ) -> Float[Tensor, "BT C H W"]:
        """Return what joins x."""
        resized = F.interpolate(given.float(), size=x.shape[-2:], mode="area")
        out: Tensor = self.conv(resized.to(x.dtype))
        return out


class ClipResBlock(nn.Module):
    """A residual block of 3x3 convolutions whose norms span the clip.

    Args:
        channels: width going in.
        out_channels: width coming out; where it differs, a 1x1 convolution carries the input over.
        time_embedding: width of the time embedding; None: the block has none.
    """

    def __init__(self, channels: int, out_channels: int, time_embedding: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(num_groups(channels), channels, eps=1e-6)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_embedding, out_channels) if time_embedding else None
        self.norm2 = nn.GroupNorm(num_groups(out_channels), out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        widens = channels != out_channels
        self.conv_shortcut = nn.Conv2d(channels, out_channels, 1) if widens else None

    def forward(
        self,
        x: Float[Tensor, "BT C H W"],
        num_frames: int,
        temb: Float[Tensor, "BT E"] | None = None,
    ) -> Float[Tensor, "BT D H W"]:
        """Return x plus its residual."""
        hidden = self.conv1(silu_(norm_frames(self.norm1, x, num_frames)))
        if self.time_emb_proj is not None and temb is not None:
            hidden = hidden + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        hidden = self.conv2(silu_(norm_frames(self.norm2, hidden, num_frames)))
        out: Tensor = (x if self.conv_shortcut is None else self.conv_shortcut(x)) + hidden
        return out


class VolumeConv(nn.Module):
    """A 3x3x3 convolution behind a clip-wide norm, which starts as zero (names of the release)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_3d = nn.GroupNorm(num_groups(channels), channels, eps=1e-6)
        self.conv_3d = ClipConv(channels, channels, 3, padding=1)
        zero_(self.conv_3d)

    def forward(
        self, x: Float[Tensor, "BT C H W"], num_frames: int, second: object = None
    ) -> Float[Tensor, "BT C H W"]:
        """Return what is added to x: Conv(SiLU(GN(x))), zeros beyond the clip and the picture."""
        return convolve_volume(self.norm_3d, self.conv_3d, x, num_frames)


def convolve_volume(
    norm: nn.GroupNorm, conv: nn.Conv3d, x: Float[Tensor, "BT C H W"], num_frames: int
) -> Float[Tensor, "BT D H W"]:
    """Return Conv(SiLU(GN(x))) of clips."""
    hidden = silu_(norm_frames(norm, x, num_frames))
    out: Tensor = conv(rearrange(hidden, "(b t) c h w -> b c t h w", t=num_frames))
    return rearrange(out, "b c t h w -> (b t) c h w")


class TemporalBlock(nn.Module):
    """Upscale-A-Video's module behind a whole down, mid or up block, with the release's names.

    shift_conv(R2(R3(x))): R3 a residual block of (5,1,1) and (3,1,1) convolutions, R2 one of 3x3
    convolutions, both with clip-wide norms and time embedding; the 1x1 `shift_conv` starts as zero.
    """

    def __init__(self, channels: int, time_embedding: int) -> None:
        super().__init__()
        self.resblocks_3d_temporal = TemporalConv(channels, time_embedding, sizes=(5, 3))
        self.resblocks_3d_spatial = ClipResBlock(channels, channels, time_embedding)
        self.shift_conv = nn.Conv2d(channels, channels, 1)
        zero_(self.shift_conv)

    def forward(
        self, x: Float[Tensor, "BT C H W"], num_frames: int, temb: Float[Tensor, "BT E"]
    ) -> Float[Tensor, "BT C H W"]:
        """Return what is added to x."""
        hidden = x + self.resblocks_3d_temporal(x, num_frames, temb)
        out: Tensor = self.shift_conv(self.resblocks_3d_spatial(hidden, num_frames, temb))
        return out


def norm_clip(norm: nn.GroupNorm, clip: Float[Tensor, "B C T P"]) -> Float[Tensor, "B C T P"]:
    """Normalise a clip.

    Behind frozen layers the input needs no gradient but the norm's weights do; the backward pass of
    torch 2.13 on channels-last memory then crashes, so the gradient is asked for.
    """
    if torch.is_grad_enabled() and not clip.requires_grad:
        clip = clip.detach().requires_grad_()
    return nn.GroupNorm.forward(norm, clip)


def norm_frames(
    norm: nn.GroupNorm, x: Float[Tensor, "BT C H W"], num_frames: int
) -> Float[Tensor, "BT C H W"]:
    """Normalise frames with statistics over their clip, by a two-pass variance in float32.

    The kernel for channels-last memory takes E[x^2] - E[x]^2, whose rounding deep networks amplify.
    """
    is_on_cpu = x.device.type == "cpu"  # not every device has the float64 of the statistics
    if torch.is_grad_enabled() or not is_on_cpu or x.dtype != torch.float32:
        clip = as_clip(x, num_frames)
        clip = clip if x.dtype != torch.float32 else clip.contiguous()
        return as_frames(norm_clip(norm, clip), x.shape[-2], x.shape[-1])
    rows = max(VALUES_AT_A_TIME // x[:, :, 0].numel(), 1)
    scale, shift = affine_of(norm, torch.split(x, rows, dim=2), num_frames)
    return torch.addcmul(shift, x, scale)


def silu_(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return SiLU(x), in place where no gradient is asked for."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def add_(x: Float[Tensor, "*shape"], y: Tensor) -> Float[Tensor, "*shape"]:
    """Return y + x, into x where no gradient is asked for and that keeps y's memory layout."""
    if torch.is_grad_enabled() or (y.shape == x.shape and y.stride() != x.stride()):
        return y + x
    return x.add_(y)


def num_groups(channels: int, most: int = 32) -> int:
    """Return the largest number of groups, at most `most`, that divides the channels."""
    return next(groups for groups in range(min(most, channels), 0, -1) if channels % groups == 0)
