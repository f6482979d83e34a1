"""The last stage of the embedded upscaler: later steps mend the first one's result.

The network samples a clip as it will for a user, up to a later step of a short schedule, whose
result is judged. The first step, which most videos are upscaled with, is held to what it was.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from legato.diffusion.prediction import ddim_step, eps_from, x0_from
from legato.training.batches import unit_range
from legato.training.losses import PixelLoss, warping_loss
from legato.training.stages import (
    NOT_MEASURED,
    EmbeddedTask,
    EmbeddedUpscaler,
    StageOptions,
    pure_noise,
)
from legato.training.trainer import Batch
from legato.training.validation import flat

FIRST_ESTIMATE_SHARE = 0.85
"""Of the first step's estimate in the result of several (docs/decisions/0068)."""
NUMBERS_OF_STEPS = (2, 4, 4, 4, 8)
"""That a clip is sampled in; one of them is drawn."""
VALIDATED_STEPS = 4
NOTHING = dict.fromkeys(("apart", "latent"), float("nan")) | NOT_MEASURED


@dataclass(frozen=True, kw_only=True)
class RefiningOptions:
    """How the stage divides its time."""

    last_share: float = 0.5
    """Share of clips that are judged after the last step; others after a random later one."""
    holding_share: float = 0.25
    """Share of batches at which the first step is held instead."""
    holding_weight: float = 8.0
    """Weight of the L1 distance between the first x_0 and what it was before the stage."""


class Told(NamedTuple):
    """What the network knows of a clip besides the noise."""

    given: Float[Tensor, "B T 3 h w"]
    levels: Int[Tensor, "B"]
    words: Int[Tensor, "B N"]


class RefiningTask(EmbeddedTask):
    """The U-Net predicts x_0 from its own estimates under noise; decoder and words stay."""

    def __init__(
        self,
        system: EmbeddedUpscaler,
        pixel_loss: PixelLoss,
        held_back: list[Batch],
        options: RefiningOptions,
        weights: StageOptions,
    ) -> None:
        super().__init__(system, pixel_loss, held_back)
        self.options, self.weights = options, weights
        system.unet.enabled = True
        self.before = EmbeddedUpscaler(
            deepcopy(system.unet), system.autoencoder, system.words, system.schedule
        )
        system.unet.requires_grad_(requires_grad=True)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return how far the first step left what it was, or the loss of a later one."""
        noise, told = self._start(batch, self.weights, generator)
        with torch.no_grad():
            first = self.before.first_estimate(noise, *told)
        share, last, number, place = torch.rand(4, generator=generator).tolist()
        if share < self.options.holding_share:
            apart = (self.module.first_estimate(noise, *told) - first).abs().mean()
            return self.options.holding_weight * apart, NOTHING | {"apart": apart.item()}
        steps = NUMBERS_OF_STEPS[int(number * len(NUMBERS_OF_STEPS))]
        later = self.module.schedule.timesteps(steps)[1:]
        if last >= self.options.last_share:
            later = later[: 1 + int(place * len(later))]
        return self._judged(self._refined(first, noise, later, told), batch, generator)

    def upscale(self, batch: Batch) -> Float[Tensor, "B T 3 H W"]:
        """Return what four steps make at the lowest noise level."""
        later = self.module.schedule.timesteps(VALIDATED_STEPS)[1:]
        lowest = replace(self.weights, clean_level_share=1.0)
        noise, told = self._start(batch, lowest, torch.Generator().manual_seed(0))
        first = self.module.first_estimate(noise, *told)
        x_0 = self._refined(first, noise, later, told)
        low_res = unit_range(batch["low_res"])
        return self.module.autoencoder.decode(x_0, low_res, motion=batch["motion"])

    def _start(
        self, batch: Batch, weights: StageOptions, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B T 4 h w"], Told]:
        low_res = unit_range(batch["low_res"])
        levels = weights.levels(len(low_res), generator).to(low_res.device)
        given = self.module.noised(low_res, levels, generator)
        return pure_noise(low_res, generator), Told(given, levels, batch["words"])

    def _refined(
        self,
        first: Float[Tensor, "B T 4 h w"],
        noise: Float[Tensor, "B T 4 h w"],
        timesteps: Sequence[int],
        told: Told,
    ) -> Float[Tensor, "B T 4 h w"]:
        """Return x_0 after the timesteps with its share of the first; the last step learns."""
        x_0, eps = first, noise
        for timestep in timesteps:
            with torch.set_grad_enabled(torch.is_grad_enabled() and timestep == timesteps[-1]):
                x_0, eps = self._step(x_0, eps, timestep, told)
        return torch.lerp(x_0, first, FIRST_ESTIMATE_SHARE)

    def _step(
        self, x_0: Tensor, eps: Tensor, timestep: int, told: Told
    ) -> tuple[Float[Tensor, "B T 4 h w"], Float[Tensor, "B T 4 h w"]]:
        schedule = self.module.schedule
        scales, kind = schedule.scales(timestep), schedule.prediction_type
        z = ddim_step(x_0, eps, scales=scales)
        given, levels, words = told
        v = self.module.predict(z, given, timestep, levels, words).float()
        return (
            x0_from(v, z, scales=scales, prediction_type=kind),
            eps_from(v, z, scales=scales, prediction_type=kind),
        )

    def _judged(
        self, x_0: Float[Tensor, "B T 4 h w"], batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Return pixel, latent and warping loss of an estimate."""
        frames, low_res = unit_range(batch["frames"]), unit_range(batch["low_res"])
        decoded = self.module.autoencoder.decode(x_0, low_res, motion=batch["motion"])
        loss, parts = self.pixel_loss(flat(decoded), flat(frames), generator)
        with torch.no_grad():
            latents = self.module.autoencoder.encode(frames).float()
        latent = self.weights.latent_weight * (x_0 - latents).abs().mean()
        moved = warping_loss(decoded, batch["flow"], batch["visible"])
        loss = loss + latent + self.weights.warping_weight * moved
        warping = 1000 * moved.item() / 4  # as measured: pictures in [0, 1]
        return loss, NOTHING | parts | {"latent": latent.item(), "warping": warping}
