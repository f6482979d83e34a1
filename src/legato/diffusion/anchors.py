"""Anchors: what an earlier segment has fixed holds at every step of the next one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Step


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Pin for `denoise`: imposes the latents that an earlier segment had after each step.

    Latents after a step are alpha' x_0 + sigma' eps, so this imposes the edited x_0 together with
    the noise estimate that went with it, and the frames' whole path is the earlier segment's.
    """

    stop: int
    """Index after the last anchor frame in the clip."""

    latents: Mapping[int, Float[Tensor, "B A C h w"]]
    """By step (counted from 0), the latents after it of the last A frames before `stop`."""

    def __call__(
        self, step: Step, x0: Float[Tensor, "B T C h w"], z: Float[Tensor, "B T C h w"]
    ) -> Float[Tensor, "B T C h w"]:
        """Return z with the anchors in place."""
        known = self.latents.get(step.index)
        count = 0 if known is None else min(known.shape[1], self.stop)
        if known is None or count == 0:
            return z
        pinned = z.clone()
        pinned[:, self.stop - count : self.stop] = known[:, known.shape[1] - count :].to(z)
        return pinned


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Pin for `denoise` that changes nothing and keeps what the next segment's anchors need."""

    stop: int
    """Index after the last frame to record: the next segment's first."""

    num_anchors: int
    """How many frames before it later steps of the next segment will look at."""

    seed_steps: Collection[int] = ()
    """Steps at which the last frame's edited x_0 will seed a propagation."""

    latents: dict[int, Tensor] = field(default_factory=dict)
    seeds: dict[int, Tensor] = field(default_factory=dict)

    def __call__(
        self, step: Step, x0: Float[Tensor, "B T C h w"], z: Float[Tensor, "B T C h w"]
    ) -> Float[Tensor, "B T C h w"]:
        """Record, and return z."""
        if self.num_anchors and step.index + 1 < step.num_steps:
            first = max(self.stop - self.num_anchors, 0)
            self.latents[step.index] = z[:, first : self.stop].detach().clone().cpu()
        if step.index in self.seed_steps:
            self.seeds[step.index] = x0[:, self.stop - 1].detach().clone().cpu()
        return z


@dataclass(frozen=True, kw_only=True)
class EndsRecorder:
    """Pin for `denoise` that changes nothing and keeps a clip's first and last frame at each step.

    They are the anchors of the next batch of key frames: the pair that holds all batches together.
    """

    latents: dict[int, Tensor] = field(default_factory=dict)
    """By step, the latents `B 2 C h w` after it."""

    def __call__(
        self, step: Step, x0: Float[Tensor, "B T C h w"], z: Float[Tensor, "B T C h w"]
    ) -> Float[Tensor, "B T C h w"]:
        """Record, and return z."""
        self.latents[step.index] = z[:, [0, -1]].detach().clone().cpu()
        return z
