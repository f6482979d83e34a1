"""FRESCO around an image model: guided attention and feature optimisation, step by step.

Yang et al. 2024, arXiv:2403.12962. No training: the frames of a clip are denoised together and told
what belongs together, in space and in time, by tensors that the caller computed from the input.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from legato.diffusion.feature_optimisation import (
    PAPER_FEATURES,
    RELEASED_FEATURES,
    FeatureOptimisation,
    FeatureOptions,
    Smooth,
)
from legato.diffusion.schedule import Schedule
from legato.diffusion.step_plan import RELEASED_PLAN, StepParts, StepPlan
from legato.flow.correspondence import CyclicMotion
from legato.models.attention_sites import Part, choose_self_attentions
from legato.models.cross_frame_attention import NearestTokens
from legato.models.frame_attention import ClipState, FrameAttention, install
from legato.models.guided_attention import GuidedAttention
from legato.models.reference import Reference, captured
from legato.models.token_correspondence import ByTokens


@dataclass(frozen=True, kw_only=True)
class FrescoOptions:
    """What guides the frames, how strongly and when; by default as in the released code."""

    strides: tuple[int, ...] = (8, 16)
    """Pixels per token of the self-attentions that are guided."""

    parts: tuple[Part, ...] = ("up",)
    """Of the U-Net: where these self-attentions are; by default in its decoder."""

    lambda_s: float = 5.0
    """How evenly spatial guidance mixes a frame's queries."""

    lambda_t: float = 5.0
    """How evenly temporal guidance mixes a trajectory."""

    features: FeatureOptions = RELEASED_FEATURES
    """How features are optimised."""

    plan: StepPlan = RELEASED_PLAN
    """What acts when."""


RELEASED = FrescoOptions()
PAPER = replace(RELEASED, features=PAPER_FEATURES)
FRESCO_PRESETS = {"released": RELEASED, "paper": PAPER}


@dataclass(frozen=True, kw_only=True)
class ClipCorrespondence:
    """What belongs together in one clip, computed from its input."""

    num_frames: int
    tokens: ByTokens
    """By number of tokens of a frame, for the strides of the options."""
    flow: CyclicMotion | None
    """None, e.g. for a single frame, leaves the temporal loss out."""
    background: Smooth | None = None
    """What is done to features after their optimisation, e.g. carrying the background along."""

    def to(self, device: torch.device) -> "ClipCorrespondence":
        """Return it with the tokens on a device; flow is moved when it is resized."""
        tokens = {count: known.to(device) for count, known in self.tokens.items()}
        return replace(self, tokens=tokens)


class Fresco:
    """Guides one U-Net while its `attached` block lasts.

    Args:
        unet: any diffusers U-Net with self-attention; of a `VideoModel` its `spatial`.
        options: what acts.
        cell: pixels of the flow per latent cell.
        attention: of another system, which acts as long as cross-frame attention would; None: the
            guided attention of FRESCO.

    Raises:
        ModelError: the U-Net has no self-attention of these strides.
    """

    def __init__(
        self,
        unet: nn.Module,
        options: FrescoOptions = RELEASED,
        *,
        cell: int,
        attention: FrameAttention | None = None,
    ) -> None:
        self.unet, self.options = unet, options
        self.sites = choose_self_attentions(
            unet, cell=cell, strides=options.strides, parts=options.parts
        )
        self._state = ClipState()
        guided = GuidedAttention(lambda_s=options.lambda_s, lambda_t=options.lambda_t)
        self._attention: FrameAttention = guided if attention is None else attention
        self._features = FeatureOptimisation(options=options.features)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within the block, the U-Net can be guided; after it, it is as before."""
        with ExitStack() as stack:
            stack.callback(install(self.unet, self.sites, self._attention, self._state))
            stack.callback(self._features.attach(self.unet))
            stack.callback(self.off)
            yield

    def look(self, predict: Callable[[], object]) -> Reference:
        """Run the reference pass, unguided, and return what the U-Net held.

        Args:
            predict: one call of the U-Net on the noised input, with the prompts of the run.
        """
        self.off()
        with torch.no_grad(), captured(self.unet, self.sites) as reference:
            predict()
        return reference

    def reads_reference(self, parts: StepParts) -> bool:
        """Tell whether what acts compares with what `look` returns."""
        nearest = isinstance(self._attention, NearestTokens) and bool(parts.attention)
        return parts.features or nearest or "spatial" in parts.attention

    def on(
        self,
        clip: ClipCorrespondence,
        reference: Reference | None,
        parts: StepParts,
        *,
        step: int = 0,
    ) -> None:
        """Guide the calls to come.

        Args:
            clip: on the U-Net's device.
            reference: what `look` returned; None where nothing reads it.
            parts: what acts; smoothing of the clean estimate is left to an edit of the loop.
            step: of the loop.
        """
        self._state.num_frames = clip.num_frames if parts.attention else 0
        self._state.correspondences, self._state.reference = clip.tokens, reference
        self._state.step = step
        if isinstance(self._attention, GuidedAttention):
            self._attention.parts = parts.attention
        self._features.num_frames = clip.num_frames if parts.features else 0
        self._features.flow, self._features.reference = clip.flow, reference
        self._features.background = clip.background

    def off(self) -> None:
        """Leave the calls to come alone."""
        self._state.num_frames = self._features.num_frames = 0


def reference_latents(
    latents: Float[Tensor, "B T C h w"],
    noise: Float[Tensor, "B T C h w"],
    *,
    schedule: Schedule,
    timestep: int,
) -> Float[Tensor, "B T C h w"]:
    """Return the encoded input with the little noise of the schedule's last timestep.

    Args:
        latents: the encoded input.
        noise: standard normal.
        schedule: scales of signal and noise.
        timestep: the last one that is visited, `schedule.timesteps(n)[-1]`.
    """
    alpha, sigma = schedule.scales(timestep)
    return alpha * latents + sigma * noise
