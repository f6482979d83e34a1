"""Frames between two given ones, learned as a correction of their blend instead of from noise."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from legato.diffusion.context import context_condition, every_fourth, linear_blend
from legato.diffusion.prediction import x0_from
from legato.models.micro_conditioning import ClipConditions
from legato.training.generator_stages import TOLD, VideoLdm
from legato.training.trainer import Batch


@dataclass(frozen=True, kw_only=True)
class CorrectionOptions:
    """What the correction's loss weighs; the weight of L1 of the latents is 1."""

    pixels: float = 8.0
    """L1 of decoded frames in [-1, 1]."""
    decoded_share: float = 0.25
    """Share of the clips that are decoded for it, at least one."""


class CorrectionTask:
    """Estimate what the blend of a clip's ends lacks, in one pass; the image model learns too.

    At the last timestep the network sees the blend instead of noise, and its estimate of x_0 is
    added to it (docs/decisions/0053). A batch holds `latents` of five frames, `words` and `stage`,
    and where the layers are told of it `frame_rate`.

    Args:
        system: what it computes with; its U-Net's image model is its own.
        held_back: batches of the same kind, where it is to be computed.
        options: weights.
    """

    def __init__(
        self, system: VideoLdm, held_back: list[Batch], options: CorrectionOptions
    ) -> None:
        self.system, self.held_back, self.options = system, held_back, options
        system.requires_grad_(requires_grad=False)
        learning = {"temporal": system.unet.temporal, "spatial": system.unet.spatial}
        self.module = nn.ModuleDict(learning).requires_grad_(requires_grad=True)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the L1 distance of the frames between, as latents and as pictures."""
        latents = self.system.latents(batch)
        made = self.corrected(batch, latents)
        own = (made - latents)[:, 1:-1].abs().mean()
        few = max(round(self.options.decoded_share * len(latents)), 1)
        with torch.no_grad():
            truth = self.system.autoencoder.decode(latents[:few]).clamp(-1, 1)
        seen = (self.system.autoencoder.decode(made[:few]) - truth)[:, 1:-1].abs().mean()
        loss = own + self.options.pixels * seen
        return loss, {"latents": own.item(), "pixels": seen.item()}

    def validate(self) -> tuple[dict[str, float], Float[Tensor, "3 H W"]]:
        """Return errors of decoded frames in 8-bit levels, and the blend's; made above truth."""
        errors: dict[str, list[float]] = {"corrected": [], "blend": []}
        rows = []
        decode = self.system.autoencoder.decode
        for batch in self.held_back:
            latents = self.system.latents(batch)
            truth = decode(latents).clamp(-1, 1)
            made = decode(self.corrected(batch, latents)).clamp(-1, 1)
            for name, clip in (("corrected", made), ("blend", linear_blend(truth))):
                errors[name].append(127.5 * (clip - truth)[:, 1:-1].abs().mean().item())
            strips = [rearrange(clip[0], "t c h w -> c h (t w)") for clip in (made, truth)]
            rows.append(torch.cat(strips, dim=1).float())
        return {k: sum(v) / len(v) for k, v in errors.items()}, torch.cat(rows[:4], dim=1)

    def corrected(
        self, batch: Batch, latents: Float[Tensor, "B T C h w"]
    ) -> Float[Tensor, "B T C h w"]:
        """Return the given latents and, between them, their blend with its correction."""
        schedule, blend = self.system.schedule, linear_blend(latents)
        clips, last = len(latents), schedule.timesteps(1)[0]
        is_given = every_fourth(latents.shape[1]).to(latents.device)
        conditions = ClipConditions(
            given=context_condition(latents, is_given.expand(clips, -1)),
            **{name: batch[name].to(latents.device) for name in TOLD if name in batch},
            noise_level=torch.zeros(clips, dtype=torch.long, device=latents.device),
        )
        v: Tensor = self.system.unet(
            blend,
            torch.full((clips,), last, device=latents.device),
            self.system.words(batch["words"]),
            conditions=conditions,
        )
        scales, kind = schedule.scales(last), schedule.prediction_type
        made = blend + x0_from(v.float(), blend, scales=scales, prediction_type=kind)
        return torch.where(is_given[:, None, None, None], latents, made)
