"""An image model learns new pictures: U-Net, and the text encoder if it is to.

With a prior it is DreamBooth (Ruiz et al. 2023, arXiv:2208.12242, eq. 2): beside the new pictures
it keeps learning what it showed before, under the prompt without the new word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from legato.diffusion.noise import INDEPENDENT
from legato.diffusion.prediction import prediction_of
from legato.diffusion.schedule import Schedule
from legato.models.image_model import ImageModel
from legato.models.micro_conditioning import ClipConditions
from legato.models.trainable_text import TrainableText
from legato.pipelines.clip_sampler import ClipSampler, Given
from legato.training.generator_stages import VALIDATED_AT
from legato.training.pictures import Prior, as_clip
from legato.training.trainer import Batch

SAMPLED_STEPS = 20
SAMPLED_TOGETHER = 8
SHOWN = 4
"""Pictures of the grid."""


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How an image model learns pictures."""

    trains_text: bool = False
    """Whether the text encoder learns too; for a new word it must."""
    prior_weight: float = 1.0
    """Weight of the loss of the prior, where there is one."""


class PictureTask:
    """Predict noise, velocity or clean latents of single pictures at any timestep.

    A batch holds `frames` (uint8) and `captions`; with a prior also `prior` (latents) and
    `prior_captions`.
    """

    def __init__(
        self,
        model: ImageModel,
        text: TrainableText,
        held_back: list[Batch],
        options: PictureOptions,
        *,
        prior: Prior | None = None,
    ) -> None:
        self.model, self.text, self.held_back, self.options = model, text, held_back, options
        self.prior = prior
        self.schedule = Schedule.from_config(model.schedule)
        for part, learns in ((model.unet, True), (text, options.trains_text)):
            part.requires_grad_(requires_grad=learns)
        self.module = nn.ModuleDict({"unet": model.unet.spatial})
        if options.trains_text:
            self.module["text"] = text.encoder

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the mean squared error of new pictures, and weighted that of the prior."""
        latents, captions = self._latents(batch), list(batch["captions"])
        new = len(latents)
        if "prior" in batch:
            latents = torch.cat((latents, batch["prior"][:, None].to(latents)))
            captions += batch["prior_captions"]
        total, count = self.schedule.num_train_timesteps, len(latents)
        # one timestep from each of `count` equal parts of the schedule: less noise in the loss
        order = torch.randperm(count, generator=generator)
        draw = (order + torch.rand(count, generator=generator)) / count
        errors = self._errors(latents, captions, (draw * total).long(), generator)
        loss = errors[:new].mean()
        figures = {"new": loss.item()}
        if "prior" in batch:
            kept = errors[new:].mean()
            figures["prior"] = kept.item()
            loss = loss + self.options.prior_weight * kept
        return loss, figures

    def validate(self) -> tuple[dict[str, float], Float[Tensor, "3 H W"]]:
        """Return errors of held-back pictures and of the prior; samples beside the pictures."""
        known = [(self._latents(batch), list(batch["captions"])) for batch in self.held_back]
        figures = {"new": self._mean_error(known)}
        if self.prior is not None:
            together = min(32, len(self.prior.captions))
            shown = self.prior.latents[:together, None], list(self.prior.captions[:together])
            figures["prior"] = self._mean_error([shown])
        latents, captions = known[0][0][:SHOWN], known[0][1][:SHOWN]
        made = sampled(self.model, self.text, captions, shape=latents.shape[2:], seed=0)
        rows = [self.model.decode(z.to(self.model.unet.device)) for z in (made, latents.cpu())]
        grid = torch.cat([rearrange(row, "b 1 c h w -> c h (b w)") for row in rows], dim=1)
        return figures, grid.float().cpu()

    def _mean_error(self, known: list[tuple[Tensor, list[str]]]) -> float:
        errors = []
        for share in VALIDATED_AT:
            at = round(share * self.schedule.num_train_timesteps)
            generator = torch.Generator().manual_seed(at)
            for latents, captions in known:
                times = torch.full((len(latents),), at)
                errors.append(self._errors(latents, captions, times, generator))
        return torch.cat(errors).mean().item()

    def _errors(
        self,
        latents: Float[Tensor, "B 1 C h w"],
        captions: list[str],
        timesteps: Int[Tensor, "B"],
        generator: torch.Generator,
    ) -> Float[Tensor, "B"]:
        device = self.model.unet.device
        latents = latents.to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        alpha, sigma = self.schedule.scales_at(timesteps, device)
        target = prediction_of(
            latents, noise, scales=(alpha, sigma), prediction_type=self.schedule.prediction_type
        )
        predicted = self.model.unet(
            alpha * latents + sigma * noise, timesteps.to(device), self.text(captions)
        )
        errors: Tensor = (predicted.float() - target).square().mean(dim=(1, 2, 3, 4))
        return errors

    def _latents(self, batch: Batch) -> Float[Tensor, "B 1 C h w"]:
        return self.model.encode(as_clip(batch["frames"]).to(self.model.unet.device))


@torch.no_grad()
def sampled(
    model: ImageModel,
    text: TrainableText,
    prompts: Sequence[str],
    *,
    shape: Sequence[int],
    seed: int,
) -> Float[Tensor, "N 1 C h w"]:
    """Return the latents of one picture per prompt, with the guidance that the model suggests.

    Args:
        model: gives U-Net and schedule.
        text: embeds the prompts.
        prompts: what they show.
        shape: channels, rows and columns of the latents.
        seed: of the noise.
    """
    numbers: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        numbers.setdefault(prompt, []).append(number)
    made = torch.zeros(len(prompts), 1, *shape)
    for prompt, own in numbers.items():
        sampler = ClipSampler(
            schedule=Schedule.from_config(model.schedule),
            num_inference_steps=SAMPLED_STEPS,
            solver="ddim",
            prompt=text([prompt]),
            negative_prompt=text([""]),
            guidance_scale=model.defaults.translation_guidance,
            prior=INDEPENDENT,
            seed=seed,
            device=model.unet.device,
            dtype=model.unet.dtype,
        )
        for some in torch.split(torch.tensor(own), SAMPLED_TOGETHER):
            given = Given(
                latents=torch.zeros(len(some), 1, *shape),
                mask=torch.zeros(1, dtype=torch.bool),
                ticks=[[number] for number in some.tolist()],
                purpose="pictures",
            )
            with model.unet.disabled():
                made[some] = sampler(model.unet, given, told=ClipConditions())
    return made
