"""Families of temporal layers as data: which layer goes to which kind of site."""

from dataclasses import dataclass, fields
from typing import Literal

from torch import nn

from legato.errors import InputError
from legato.models.motion_module import MotionModule, MotionShape
from legato.models.sites import Site, SiteKind
from legato.models.temporal_attention import (
    PositionKind,
    PreFeedForwardAttention,
    TemporalTransformer,
    TransformerShape,
)
from legato.models.temporal_conv import MixMode, TemporalBlock, TemporalConv, TimeMixer

NormStats = Literal["frame", "clip"]


@dataclass(frozen=True, kw_only=True)
class VideoLdmOptions:
    """Temporal layers of Video LDM and Stable Video Diffusion, whole or lean."""

    conv: bool = True
    """A (3,1,1) residual block after every spatial ResBlock."""
    conv_time_embedding: bool = True
    """Whether those blocks read the time embedding."""
    attention: bool = True
    """A temporal transformer block after every spatial transformer block."""
    positions: PositionKind = "mlp-sin"
    """How the frame index enters the transformer."""
    ff_in: bool = True
    """Whether the transformer starts with a feed-forward."""
    ff_multiple: int = 4
    """Inner width of the transformer's feed-forwards as a multiple of its width."""
    cross_attention: bool = True
    """Whether the transformer attends to the text."""
    window: int | None = None
    """Frames further apart than this do not attend to each other; None: all do."""
    mix: MixMode = "scalar"
    """One learned mixing weight per layer, or one per frame, which fixes their number."""
    initial_mix: float = 0.5
    """Where mixing starts, before the sigmoid: the temporal branch counts sigmoid(-this)."""
    num_frames: int = 8
    """Frames of a clip in training; with `mix="per_frame"` the only number accepted."""
    norm_stats: NormStats = "frame"
    """Whether the spatial norms see a frame (then layers off = the image model) or the clip."""
    norm_eps: float = 1e-6
    """Of the temporal residual blocks' norms; Stable Video Diffusion was trained with 1e-5."""
    context_channels: int | None = None
    """Channels of c_S, given latents and their mask, that join the convolutions; None: none."""
    sees_frame_rate: bool = False
    """Whether the convolutions' time embedding tells the frame rate."""
    sees_stage: bool = False
    """Whether it tells the stage of an interpolation."""
    sees_noise_level: bool = False
    """Whether it tells how much noise the given frames carry."""

    def __post_init__(self) -> None:
        if self.context_channels is not None and not self.conv:
            raise InputError(
                f"context_channels={self.context_channels} without convolutions",
                why="given frames join the temporal convolutions",
                fix="use conv=True",
            )
        if self.is_told and not (self.conv and self.conv_time_embedding):
            raise InputError(
                "micro-conditioning without a time embedding",
                why="it is added to the time embedding of the temporal convolutions",
                fix="use conv=True and conv_time_embedding=True",
            )

    @property
    def is_told(self) -> bool:
        """Whether there is any micro-conditioning."""
        return self.sees_frame_rate or self.sees_stage or self.sees_noise_level

    def mixer(self) -> TimeMixer:
        """Return a fresh mixing weight."""
        return TimeMixer(self.mix, self.num_frames, self.initial_mix)

    def build(self, site: Site) -> nn.Module | None:
        """Return the fresh layer of a site; None: none there."""
        if site.kind == "resnet.post":
            if not self.conv:
                return None
            temb = site.time_embedding if self.conv_time_embedding else None
            return TemporalConv(
                site.channels,
                temb,
                mixer=self.mixer(),
                eps=self.norm_eps,
                context_channels=self.context_channels,
            )
        if not self.attention:
            return None
        return TemporalTransformer(
            site.channels,
            site.num_heads,
            text_width=site.text_width if self.cross_attention else None,
            shape=TransformerShape(
                positions=self.positions,
                ff_in=self.ff_in,
                ff_multiple=self.ff_multiple,
                window=self.window,
            ),
            mixer=self.mixer(),
        )


@dataclass(frozen=True, kw_only=True)
class UpscaleAVideoOptions:
    """Temporal layers as in the released Upscale-A-Video (Zhou et al. 2024, arXiv:2312.06640)."""

    norm_stats: NormStats = "clip"
    """What the spatial norms see; the released weights need the clip."""
    num_frames: int = 8
    """Frames of a clip in training."""

    def build(self, site: Site) -> nn.Module | None:
        """Return the fresh layer of a site."""
        if site.kind == "attn.pre":
            return TemporalConv(site.channels, None)
        if site.kind == "tblock.pre_ff":
            return PreFeedForwardAttention(site.channels, site.num_heads)
        assert site.time_embedding is not None
        return TemporalBlock(site.channels, site.time_embedding)


@dataclass(frozen=True, kw_only=True)
class AnimateDiffOptions(MotionShape):
    """Motion modules of AnimateDiff (Guo et al. 2023, arXiv:2307.04725)."""

    mid_block: bool = True
    """Whether the mid block has one; only the second version has."""
    norm_stats: NormStats = "frame"
    """What the spatial norms see; the first version was trained with the clip."""

    def build(self, site: Site) -> nn.Module | None:
        """Return the fresh module of a site; None: none there."""
        if site.path.startswith("mid_block") and not self.mid_block:
            return None
        return MotionModule(site.channels, self)


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """No temporal layers: frames are independent."""

    norm_stats: NormStats = "frame"
    """What the spatial norms see."""

    def build(self, site: Site) -> nn.Module | None:
        """Return no layer."""
        return None


FamilyOptions = VideoLdmOptions | UpscaleAVideoOptions | AnimateDiffOptions | ImageOptions


@dataclass(frozen=True)
class Family:
    """Which kinds of sites a family uses, and the options that build their layers."""

    kinds: tuple[SiteKind, ...]
    options: type[FamilyOptions]


FAMILIES: dict[str, Family] = {
    "image": Family((), ImageOptions),
    "video_ldm": Family(("resnet.post", "tblock.post"), VideoLdmOptions),
    "upscale_a_video": Family(("attn.pre", "tblock.pre_ff", "block.post"), UpscaleAVideoOptions),
    "animatediff": Family(("attn.post",), AnimateDiffOptions),
}


def options_from(family: str, given: dict[str, object]) -> FamilyOptions:
    """Return a family's options with the given ones changed.

    Raises:
        InputError: no such family, or an option that it does not have.
    """
    if family not in FAMILIES:
        raise InputError(
            f"family={family!r}", why="no such temporal layers", fix=f"use {' or '.join(FAMILIES)}"
        )
    known = [field.name for field in fields(FAMILIES[family].options)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(
            f"option {unknown[0]!r} of family {family}",
            why="it has no such option",
            fix=f"use one of {', '.join(known)}",
        )
    return FAMILIES[family].options(**given)  # type: ignore[arg-type]
