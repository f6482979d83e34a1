"""A segment whose frames see each other: what its denoiser is guided by, from noise to latents."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.denoiser import Denoiser, Network, denoise
from legato.diffusion.fresco import Fresco, reference_latents
from legato.flow.estimate import FlowEstimator
from legato.pipelines.first_latents import FirstLatents
from legato.pipelines.guided_windows import GuidedWindows


@dataclass(frozen=True, kw_only=True)
class SegmentGuidance:
    """Lets the frames of each window see each other, window by window."""

    network: Network

    fresco: Fresco

    estimator: FlowEstimator

    first: FirstLatents
    """What the segment begins with; guidance also looks at the input."""

    carries_background: bool
    """Whether the background's features are carried along."""

    num_steps: int
    """Of the whole schedule."""

    @contextmanager
    def guiding(
        self,
        denoiser: Denoiser,
        clip: Float[Tensor, "1 T 3 h w"],
        start: Float[Tensor, "1 T C h w"],
        ticks: Sequence[int],
    ) -> Iterator[Denoiser]:
        """Give the denoiser whose network is guided; the U-Net is as before at the end."""
        low_res, first = denoiser.conditions.low_res, self.first
        assert low_res is not None
        known = reference_latents(
            self._first_look(denoiser, clip, start),
            first.noise("reference", first.channels, clip, ticks),
            schedule=first.schedule,
            timestep=first.timesteps[-1],
        )
        windows = GuidedWindows(
            network=self.network,
            fresco=self.fresco,
            frames=clip[0],
            reference=torch.cat((known, low_res), dim=2),
            estimator=self.estimator,
            carries_background=self.carries_background,
            timesteps=first.timesteps,
            num_steps=self.num_steps,
        )
        with self.fresco.attached():
            yield replace(denoiser, network=windows)

    def _first_look(
        self,
        denoiser: Denoiser,
        clip: Float[Tensor, "1 T 3 h w"],
        start: Float[Tensor, "1 T C h w"],
    ) -> Float[Tensor, "1 T C h w"]:
        """Return latents of the input: encoded, or what one step makes of it without an encoder."""
        if self.first.encode is not None:
            return self.first.encoded(clip)
        return denoise(
            replace(denoiser, kept={}, on_window=None),
            start,
            schedule=self.first.schedule,
            timesteps=self.first.timesteps[:1],
        )
