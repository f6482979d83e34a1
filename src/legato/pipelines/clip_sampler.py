"""One clip of latents from noise, some of its frames given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from legato.diffusion.augmentation import augment
from legato.diffusion.context import context_condition, linear_blend
from legato.diffusion.denoiser import Conditions, Denoiser, Edit, Network, denoise
from legato.diffusion.equal_contrast import equal_contrast
from legato.diffusion.noise import INDEPENDENT, NoisePrior, frame_noise
from legato.diffusion.reconstruction_guidance import ReconstructionGuided
from legato.diffusion.schedule import Schedule
from legato.diffusion.solver import SolverName
from legato.diffusion.spans import Span
from legato.models.manifest import InterpolationStart
from legato.models.micro_conditioning import ClipConditions
from legato.pipelines.events import Passes


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is known of the clips that are to be made."""

    latents: Float[Tensor, "B T C h w"]
    """Of the given frames; what stands elsewhere does not count."""
    mask: Bool[Tensor, "T"]
    """Which frames are given."""
    ticks: Sequence[Sequence[int]]
    """By clip and frame, the index in the video at this stage: the seed of the frame's noise."""
    purpose: str
    """Stage that the noise is for."""
    guidance: float = 1.0
    """How strongly the given frames are followed."""
    start: InterpolationStart = "noise"
    """What the first step sees: noise, or the fade from the first frame to the last one, both
    given, to which the estimate is added, with their contrast: for a network that was taught so, in
    one step."""
    edits: Sequence[Edit] = ()
    """What changes estimates on the way from noise."""
    aims: Bool[Tensor, "T"] | None = None
    """Frames that are known too, but not shown to the network: the others are led to them."""
    aiming: float = 0.0
    """How strongly; see `ReconstructionGuided`."""


@dataclass(frozen=True, kw_only=True)
class ClipSampler:
    """Denoises clips with one text, one schedule and one seed."""

    schedule: Schedule
    num_inference_steps: int
    solver: SolverName
    prompt: Float[Tensor, "1 N D"]
    negative_prompt: Float[Tensor, "1 N D"]
    temporal_prompt: Float[Tensor, "1 N E"] | None = None
    """What temporal layers read instead: the same words, embedded as they were trained."""
    temporal_negative_prompt: Float[Tensor, "1 N E"] | None = None
    guidance_scale: float
    prior: NoisePrior
    """How the noise of neighbouring frames hangs together."""
    seed: int
    device: torch.device
    dtype: torch.dtype

    def __call__(
        self,
        network: Network,
        given: Given,
        *,
        told: ClipConditions,
        on_pass: Callable[[float | int], None] | None = None,
    ) -> Float[Tensor, "B T C h w"]:
        """Return the clips, float32 on the CPU; given frames are kept as they were given.

        Args:
            network: of the stage; a `VideoModel` that is disabled makes every frame on its own.
            given: frames that are known, and where the clips lie in the video.
            told: frame rate, stage, window and noise of the given frames; these are added here.
            on_pass: called after each pass with the share of the work that is done.
        """
        num_frames = given.latents.shape[1]
        known, kept = given.latents.float(), given.mask
        if given.aims is not None:
            kept = kept | given.aims
            network = ReconstructionGuided(
                network=network,
                schedule=self.schedule,
                known=known,
                mask=given.aims,
                weight=given.aiming,
            )
        if given.mask.any():
            told = replace(told, given=self._context(known, given, told).to(self.device))
        conditions = Conditions(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            temporal_prompt=self.temporal_prompt,
            temporal_negative_prompt=self.temporal_negative_prompt,
            guidance_scale=self.guidance_scale,
            context_guidance=given.guidance,
            clip=told,
        )
        timesteps = self.schedule.timesteps(self.num_inference_steps)
        passes = Passes(len(timesteps) * len(conditions.links), on_pass)

        denoiser = Denoiser(
            network=network,
            conditions=conditions,
            windows=[Span.whole(num_frames)],
            dtype=self.dtype,
            on_window=passes.advance,
        )
        start, edits = self._start(given)
        sampled = denoise(
            denoiser,
            start,
            schedule=self.schedule,
            timesteps=timesteps,
            solver=self.solver,
            hooks=(edits, ()),
        ).cpu()
        return torch.where(kept[None, :, None, None, None], known, sampled)

    def _start(self, given: Given) -> tuple[Float[Tensor, "B T C h w"], list[Edit]]:
        """Return what the first step sees, and what changes its estimate."""
        if given.start == "noise":
            noise = self._noise(given, given.purpose, self.prior)
            return noise.to(self.device), list(given.edits)
        assert self.num_inference_steps == 1, "each step would add the blend again"
        blend = linear_blend(given.latents.float()).to(self.device)
        return blend, [lambda _, x0: equal_contrast(x0 + blend, blend[:, [0, -1]])]

    def _context(
        self, known: Float[Tensor, "B T C h w"], given: Given, told: ClipConditions
    ) -> Float[Tensor, "B T K h w"]:
        level = 0 if told.noise_level is None else int(told.noise_level)
        if level:
            noise = self._noise(given, "context", INDEPENDENT)
            known = augment(known, noise, level=level, schedule=self.schedule)
        return context_condition(known, given.mask[None].expand(known.shape[:2]))

    def _noise(self, given: Given, purpose: str, prior: NoisePrior) -> Float[Tensor, "B T C h w"]:
        shape = given.latents.shape[2:]
        drawn = [
            frame_noise(shape, seed=self.seed, purpose=purpose, ticks=ticks, prior=prior)
            for ticks in given.ticks
        ]
        return torch.stack(drawn)
