"""A video made of a picture, by a model of Stable Video Diffusion's kind.

Blattmann et al. 2023, arXiv:2311.15127: every clip is made of one picture, under a little noise.
That of the first clip is the user's, that of every later one the last frame of the clip before.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.noise import frame_noise
from legato.diffusion.picture_guidance import PictureGuided
from legato.diffusion.schedule import KarrasSchedule
from legato.models.micro_conditioning import ClipConditions
from legato.models.positions import waves
from legato.pipelines.clip_sampler import Given
from legato.pipelines.generation import Generation, Spread, finite
from legato.pipelines.stage_work import Progress
from legato.pipelines.timeline import Call

PICTURE_NOISE = 0.02
"""Deviation of the noise on the picture, of values from -1 to 1; the network is told of it."""


@dataclass(frozen=True, kw_only=True)
class PictureGeneration(Generation):
    """One video being made of a picture: its key frames are all its frames."""

    def make_key_frames(self, part: int, progress: Progress) -> None:
        """Make a clip of the picture that it begins with, and save what is new of it."""
        call = self.calls[part]
        num_frames = call.stop - call.first
        embedding, guided = self._shown(self._picture(call), call)
        sampler = replace(
            self.sampler, prompt=embedding, negative_prompt=embedding, guidance_scale=1.0
        )
        made = sampler(
            guided,
            Given(
                latents=torch.zeros(1, num_frames, *self.shape),
                mask=torch.zeros(num_frames, dtype=torch.bool),
                ticks=[range(call.first, call.stop)],
                purpose="key frames",
                edits=self.anchors(call),
            ),
            told=ClipConditions(window=self.settings.attention_window),
            on_pass=Spread(progress, self.key_frames.bounds[part], num_frames),
        )
        self.key_frames.write(part, finite(made[0, call.num_given :], sampler.dtype))

    def _picture(self, call: Call) -> Float[Tensor, "3 H W"]:
        """Return what a clip is made of: the user's picture, or the last frame before."""
        if not call.num_given:
            assert self.first_frame is not None
            return self.first_frame
        low = max(call.first + 1 - self.model.defaults.decoder_window, 0)
        latents = self.key_frames.read(low, call.first + 1)[None].to(self.sampler.device)
        return self.model.decode(latents)[0, -1].clamp(-1, 1).cpu()

    def _shown(
        self, picture: Float[Tensor, "3 H W"], call: Call
    ) -> tuple[Float[Tensor, "1 1 D"], PictureGuided]:
        """Return the embedding of a picture, and the network that is shown it."""
        model, sampler, settings = self.model, self.sampler, self.settings
        assert model.picture is not None
        assert settings.motion_bucket is not None
        assert isinstance(sampler.schedule, KarrasSchedule)
        noise = frame_noise(picture.shape, seed=sampler.seed, purpose="picture", ticks=[call.first])
        noisy = (picture + PICTURE_NOISE * noise[0]).to(sampler.device)
        shape: Any = model.unet.spatial.config
        numbers = float(settings.frame_rate) - 1, float(settings.motion_bucket), PICTURE_NOISE
        width = shape.projection_class_embeddings_input_dim // len(numbers)
        guided = PictureGuided(
            network=model.unet,
            schedule=sampler.schedule,
            latents=model.encode(noisy[None, None]) / model.latent_factor,
            numbers=waves(torch.tensor(numbers), width).flatten()[None],
            least=min(1.0, settings.guidance_scale),
            most=settings.guidance_scale,
        )
        return model.picture(picture), guided
