"""Image models whose frames see each other, window by window: FRESCO and its neighbours.

Every window of the shot's grid is a batch of FRESCO, guided by what belongs together among its own
frames. Neighbouring windows agree as those of temporal layers do: they share frames, whose
predictions are merged at every step, and anchors carry them from segment to segment.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor, nn

from legato.diffusion.denoiser import Network
from legato.diffusion.feature_optimisation import PAPER_FEATURES, FeatureOptions
from legato.diffusion.fresco import Fresco, FrescoOptions
from legato.diffusion.guided_network import GuidedNetwork
from legato.diffusion.spans import Span, Tile
from legato.diffusion.step_plan import RELEASED_PLAN, StepPlan
from legato.errors import InputError
from legato.flow.correspondence import follow, with_occlusions
from legato.flow.estimate import FlowEstimator
from legato.flow.foreground import stand_out
from legato.models.attention_sites import find_self_attentions
from legato.models.cross_frame_attention import (
    NearestTokens,
    all_frames,
    along_trajectories,
    first_and_previous,
    first_frame,
)
from legato.models.frame_attention import FrameAttention
from legato.pipelines.consistency import NEIGHBOURS, named, sees_other_frames
from legato.pipelines.correspond import clip_of

CELL = 1
"""Pixels of the low-resolution clip, on which flow is estimated, per latent cell."""
UPSCALING_FEATURES = PAPER_FEATURES
"""Features of an upscaler lie at the input's full size, where L1 costs too much."""

ATTENTIONS: Mapping[str, Callable[[], FrameAttention]] = {
    "first-frame": lambda: first_frame,
    "first-and-previous": lambda: first_and_previous,
    "trajectories": lambda: along_trajectories,
    "nearest-tokens": NearestTokens,
    "all-frames": lambda: all_frames,
}
"""Of `consistency.NEIGHBOURS`."""


def attention_of(chosen: frozenset[str]) -> FrameAttention | None:
    """Return the named attention of another system; None: FRESCO's own, with the parts named."""
    return next((make() for name, make in ATTENTIONS.items() if name in chosen), None)


def plan_of(chosen: frozenset[str]) -> StepPlan:
    """Return when the named parts act; the others never do."""
    cross = "cross-frame" in chosen or not chosen.isdisjoint(NEIGHBOURS)
    return StepPlan(
        spatial=RELEASED_PLAN.spatial if "spatial-guided" in chosen else 0.0,
        cross=RELEASED_PLAN.cross if cross else 0.0,
        temporal=RELEASED_PLAN.temporal if "temporal-guided" in chosen else 0.0,
        features=RELEASED_PLAN.features if "features" in chosen else 0.0,
        smoothing=(0.0, 0.0),
    )


def idle_parts(
    chosen: frozenset[str], *, num_executed: int, num_steps: int, plan: StepPlan = RELEASED_PLAN
) -> list[str]:
    """Return the named parts of FRESCO that act at no step; arguments as of `StepPlan.at`."""
    steps = [
        plan.at(index, num_executed=num_executed, num_steps=num_steps)
        for index in range(num_executed)
    ]
    optimises = any(step.features for step in steps)
    acts = {
        "temporal-guided": any("temporal" in step.attention for step in steps),
        "features": optimises,
        "background": optimises or any(step.smoothing for step in steps),
    }
    return [name for name, does in acts.items() if name in chosen and not does]


def at_no_step(num_executed: int, num_steps: int) -> str:
    """Say where an idle part would have had to act; arguments as of `StepPlan.at`."""
    return f"at none of the last {num_executed} of {num_steps} steps, which are executed"


def require_acting(
    consistency: str, idle: Sequence[str], *, strength: float, num_executed: int, num_steps: int
) -> None:
    """Refuse a part of FRESCO that acts at no step and was named; of `fresco` it is told.

    Args:
        consistency: as written.
        idle: what `idle_parts` returned.
        strength: as chosen.
        num_executed: as of `StepPlan.at`.
        num_steps: as of `StepPlan.at`.

    Raises:
        InputError: names it.
    """
    for name in named(consistency):
        if name in idle:
            raise InputError(
                f"consistency={consistency!r} with strength={strength:g}",
                why=f"{name} acts {at_no_step(num_executed, num_steps)}",
                fix="use a greater --strength, or leave it out",
            )


def guide_of(
    unet: nn.Module,
    chosen: frozenset[str],
    *,
    cell: int = CELL,
    features: FeatureOptions = UPSCALING_FEATURES,
    strides: Collection[int] | None = None,
) -> Fresco | None:
    """Return what lets a U-Net's frames see each other as named; None where nothing does.

    FRESCO guides self-attentions of the decoder, its neighbours those of the whole U-Net.

    Args:
        unet: of diffusers.
        chosen: from `consistency.holds`.
        cell: pixels of the flow per latent cell.
        features: how FRESCO optimises features.
        strides: pixels per token of the self-attentions that FRESCO guides; None: of all.

    Raises:
        InputError: the U-Net has no self-attention there.
    """
    if not sees_other_frames(chosen):
        return None
    attention = attention_of(chosen)
    options = FrescoOptions(
        parts=("up",) if attention is None else ("down", "mid", "up"),
        features=features,
        plan=plan_of(chosen),
    )
    sites = find_self_attentions(unet, cell=cell)
    found = sorted({site.stride for site in sites if site.part in options.parts})
    if attention is None and strides is not None:
        found = [stride for stride in found if stride in strides]
    if not found:
        raise InputError(
            f"consistency={', '.join(sorted(chosen))}",
            why="frames see each other in self-attentions of the decoder, and this model has none",
            fix="use propagation, or another model",
        )
    return Fresco(unet, replace(options, strides=tuple(found)), cell=cell, attention=attention)


@dataclass(kw_only=True)
class GuidedWindows:
    """Gives `denoise` a guided network for every window and tile of one clip.

    What belongs together is kept from step to step, what the reference pass holds only while a
    window lasts: memory then does not grow with the clip, at the price of another pass per step
    where there are several windows. Use it inside `fresco.attached()`.
    """

    network: Network
    fresco: Fresco

    frames: Float[Tensor, "T 3 h w"]
    """The low-resolution clip, in [-1, 1], padded."""

    reference: Float[Tensor, "1 T C h w"]
    """What the network sees of it in the reference pass."""

    estimator: FlowEstimator

    carries_background: bool
    """Whether the background's features are carried along."""

    timesteps: Sequence[int]
    """Those of the loop, falling."""

    num_steps: int
    """Of the whole schedule."""

    _networks: dict[tuple[int, int, Tile], GuidedNetwork] = field(default_factory=dict, repr=False)
    _flows: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _latest: GuidedNetwork | None = field(default=None, repr=False)

    def at(self, window: Span, tile: Tile) -> GuidedNetwork:
        """Return the network that is guided by what belongs together there."""
        key = window.start, window.stop, tile
        if key not in self._networks:
            self._networks[key] = self._guided(window, tile)
        network = self._networks[key]
        if self._latest is not None and self._latest is not network:
            self._latest.forget()
        self._latest = network
        return network

    def _guided(self, window: Span, tile: Tile) -> GuidedNetwork:
        rows, cols = (slice(span.start, span.stop) for span in tile)
        own = slice(window.start, window.stop)
        frames = self.frames[own, :, rows, cols]
        forward, backward = (flow[..., rows, cols] for flow in self._flow(window))
        clip = clip_of(
            frames,
            with_occlusions(frames, forward, backward),  # what leaves the tile is not in it
            strides=self.fresco.options.strides,
            saliency=stand_out if self.carries_background else None,
        )
        return GuidedNetwork(
            network=self.network,
            fresco=self.fresco,
            clip=clip,
            reference=self.reference[:, own, :, rows, cols],
            timesteps=self.timesteps,
            num_steps=self.num_steps,
        )

    def _flow(self, window: Span) -> tuple[Tensor, Tensor]:
        """Return the flow of a window's cyclic pairs; that of the latest window is kept."""
        key = window.start, window.stop
        if key not in self._flows:
            frames = self.frames[window.start : window.stop]
            motion = follow(frames, self.estimator)
            self._flows = {key: (motion.flow_forward, motion.flow_backward)}
        return self._flows[key]
