"""One batch of key frames from the input's to the prompt's: encode, noise or invert, denoise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from legato.diffusion.anchors import Anchors, EndsRecorder
from legato.diffusion.augmentation import augment
from legato.diffusion.denoiser import Conditions, Denoiser, Network, denoise
from legato.diffusion.fresco import reference_latents
from legato.diffusion.inversion import invert
from legato.diffusion.noise import frame_noise
from legato.diffusion.schedule import Schedule, started_part_way
from legato.diffusion.solver import Ddpm, SolverName, StepRule
from legato.diffusion.spans import Span
from legato.models.controlnet import ControlNet
from legato.models.image_model import ImageModel
from legato.models.micro_conditioning import ClipConditions
from legato.pipelines.estimate_edits import Clip
from legato.pipelines.events import Passes
from legato.pipelines.generation import finite
from legato.pipelines.guided_batch import BatchGuide
from legato.pipelines.translate_options import TranslateOptions


@dataclass(frozen=True, kw_only=True)
class KeyframeSampler:
    """Translates batches of key frames with one model and one seed."""

    model: ImageModel
    options: TranslateOptions
    """With the model's defaults."""
    guide: BatchGuide
    schedule: Schedule
    controlnet: ControlNet | None
    device: torch.device
    dtype: torch.dtype

    @property
    def timesteps(self) -> list[int]:
        """Those that are visited, falling."""
        whole = self.schedule.timesteps(self.options.num_inference_steps)
        trained = self.schedule.num_train_timesteps
        return started_part_way(whole, self.options.strength, num_train_timesteps=trained)

    def __call__(
        self,
        frames: Float[Tensor, "T 3 H W"],
        ticks: Sequence[int],
        prompt: str,
        *,
        anchors: Anchors | None,
        on_pass: Callable[[float | int], None],
        maps: Float[Tensor, "T 3 H W"] | None = None,
    ) -> tuple[Float[Tensor, "T C h w"], EndsRecorder]:
        """Return clean latents, float32 on the CPU, and what the next batch holds on to.

        Args:
            frames: of the input, in [-1, 1], at the size that the model works on.
            ticks: their times: the seed of their noise.
            prompt: what they shall look like.
            anchors: what an earlier batch has fixed; None: this is a shot's first one.
            on_pass: told the share of the work that is done, after each pass.
            maps: what the ControlNet is shown, 0 to 1; given where there is one.
        """
        timesteps, guidance = self.timesteps, self.options.guidance_scale
        assert guidance is not None
        shown = frames.to(self.device)
        latents = torch.cat([self.model.encode(frame[None, None]) for frame in shown], dim=1)
        drawn = [0] * len(ticks) if "shared-noise" in self.options.chosen else ticks
        noise = self._noise("translate", latents.shape[2:], drawn)[None]
        clip = Clip(
            frames=shown,
            ticks=ticks,
            reference=reference_latents(
                latents, noise, schedule=self.schedule, timestep=timesteps[-1]
            ),
            timesteps=timesteps,
            num_steps=self.options.num_inference_steps,
        )
        conditions = Conditions(
            prompt=self.model.encode_prompt(prompt),
            negative_prompt=self.model.encode_prompt(self.options.negative_prompt),
            guidance_scale=guidance,
        )
        inverting = self.options.start_from == "inversion"
        count = len(timesteps) * (len(conditions.links) + inverting)
        recorder, passes = EndsRecorder(), Passes(count, on_pass)
        start = self._start(latents, noise, conditions, passes)
        with self.guide.around(self._network(maps), clip) as (network, edits):
            sampled = denoise(
                self._denoiser(network, conditions, len(frames), passes),
                start,
                schedule=self.schedule,
                timesteps=timesteps,
                solver=self._rule(latents, ticks),
                hooks=(edits, [*([] if anchors is None else [anchors]), recorder]),
            )
        return finite(sampled[0], self.dtype).cpu(), recorder

    def _start(
        self,
        latents: Float[Tensor, "1 T C h w"],
        noise: Float[Tensor, "1 T C h w"],
        conditions: Conditions,
        passes: Passes,
    ) -> Float[Tensor, "1 T C h w"]:
        """Return the latents at the first timestep: under noise, or inverted with no words."""
        timesteps = self.timesteps
        if self.options.start_from == "noise":
            return augment(latents, noise, level=timesteps[0], schedule=self.schedule)
        silent = replace(conditions, prompt=self.model.encode_prompt(""), guidance_scale=1.0)
        denoiser = self._denoiser(self.model.unet, silent, latents.shape[1], passes)
        return invert(denoiser, latents, schedule=self.schedule, timesteps=timesteps)

    def _denoiser(
        self, network: Network, conditions: Conditions, num_frames: int, passes: Passes
    ) -> Denoiser:
        return Denoiser(
            network=network,
            conditions=conditions,
            windows=[Span.whole(num_frames)],
            dtype=self.dtype,
            on_window=passes.advance,
        )

    def _rule(
        self, latents: Float[Tensor, "1 T C h w"], ticks: Sequence[int]
    ) -> SolverName | StepRule:
        if self.options.solver != "ddpm":
            return self.options.solver
        shape = latents.shape[2:]
        return Ddpm(lambda index: self._noise(f"translate/{index}", shape, ticks)[None])

    def _noise(
        self, purpose: str, shape: Sequence[int], ticks: Sequence[int]
    ) -> Float[Tensor, "T C h w"]:
        noise = frame_noise(shape, seed=self.options.seed, purpose=purpose, ticks=ticks)
        return noise.to(self.device)

    def _network(self, maps: Float[Tensor, "T 3 H W"] | None) -> Network:
        if self.controlnet is None:
            return self.model.unet
        assert maps is not None
        return _Controlled(self.model.unet, self.controlnet, maps.to(self.device))


@dataclass(frozen=True)
class _Controlled:
    """A network that keeps the structure of maps."""

    network: Network
    controlnet: ControlNet
    maps: Float[Tensor, "T 3 H W"]

    def __call__(
        self,
        sample: Float[Tensor, "B T C h w"],
        timestep: Int[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B N D"],
        class_labels: Int[Tensor, " B"] | None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Float[Tensor, "B T c h w"]:
        with self.controlnet.given(self.maps):
            return self.network(
                sample, timestep, encoder_hidden_states, class_labels, conditions=conditions
            )
