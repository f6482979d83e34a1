"""The noise level of the embedded upscaler as a dial, from what is faithful to what shows texture.

Only the embedding of the levels learns. The network, and with it every result at level 0, stays
what it was (docs/decisions/0075).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from legato.training.batches import unit_range
from legato.training.losses import PixelLoss, texture_deficit, warping_loss
from legato.training.stages import (
    MAX_LEVEL,
    EmbeddedTask,
    EmbeddedUpscaler,
    StageOptions,
    pure_noise,
)
from legato.training.trainer import Batch
from legato.training.validation import flat

KNOTS = (0, 25, 60, 120, 190, MAX_LEVEL)
"""Noise levels whose embeddings learn, all but the first; others lie on lines between them."""
TEXTURE_WEIGHT, TEXTURE_POWER = 40.0, 1.4
"""Of `losses.texture_deficit`: the weight at the last knot, and how it grows up to there."""


class LedLevels(nn.Module):
    """Parametrization of an embedding: rows up to the last knot lie on lines that start at row 0.

    Rows beyond the last knot are left alone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.turns = nn.Parameter(torch.zeros(len(KNOTS) - 1, width))

    def forward(self, rows: Float[Tensor, "levels width"]) -> Float[Tensor, "levels width"]:
        """Return the rows to look up, in place of those that there were."""
        led = rows[:1] + self._shares() @ self.turns
        return torch.cat((led, rows[len(led) :]))

    def _shares(self) -> Float[Tensor, "levels knots"]:
        levels = torch.arange(KNOTS[-1] + 1.0, device=self.turns.device)[:, None]
        knots = torch.tensor(KNOTS, device=levels.device)
        rise = ((levels - knots[:-1]) / knots.diff()).clamp(0, 1)
        return rise - nn.functional.pad(rise[:, 1:], (0, 1))


class LevelTask(EmbeddedTask):
    """One step at levels above 0: the higher the level, the more texture is asked for."""

    def __init__(
        self,
        system: EmbeddedUpscaler,
        pixel_loss: PixelLoss,
        held_back: list[Batch],
        weights: StageOptions,
    ) -> None:
        super().__init__(system, pixel_loss, held_back)
        self.weights = weights
        system.unet.enabled = True
        self.embedding = system.unet.spatial.get_submodule("class_embedding")
        led = LedLevels(int(self.embedding.get_parameter("weight").shape[1]))
        parametrize.register_parametrization(self.embedding, "weight", led)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss at a random level, the same for all clips."""
        level = int(torch.randint(1, KNOTS[-1] + 1, (), generator=generator))
        decoded = self._upscaled(batch, level, generator)
        ours, truth = flat(decoded), flat(unit_range(batch["frames"]))
        total, parts = self.pixel_loss(ours, truth, generator)
        missing = texture_deficit(ours, truth)
        total = total + TEXTURE_WEIGHT * (level / KNOTS[-1]) ** TEXTURE_POWER * missing
        moved = warping_loss(decoded, batch["flow"], batch["visible"])
        total = total + self.weights.warping_weight * moved
        return total, {"level": float(level), "missing": missing.item(), **parts}

    @torch.no_grad()
    def upscale(self, batch: Batch) -> Float[Tensor, "B T 3 H W"]:
        """Return what one step makes at the largest level."""
        return self._upscaled(batch, KNOTS[-1], torch.Generator().manual_seed(0))

    def keep(self) -> None:
        """Put what was learned into the embedding itself, where it stays."""
        parametrize.remove_parametrizations(self.embedding, "weight", leave_parametrized=True)

    def _upscaled(
        self, batch: Batch, level: int, generator: torch.Generator
    ) -> Float[Tensor, "B T 3 H W"]:
        low_res, system = unit_range(batch["low_res"]), self.module
        levels = torch.full((len(low_res),), level, device=low_res.device)
        given = system.noised(low_res, levels, generator)
        noise = pure_noise(low_res, generator)
        x_0 = system.first_estimate(noise, given, levels, batch["words"])
        return system.autoencoder.decode(x_0, low_res, motion=batch["motion"])
