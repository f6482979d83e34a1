"""The tensor core of upscaling: low-resolution frames of a segment in, high-resolution frames out.

A shot is restored segment by segment. What a segment must know of the one before travels in a
`Carried` state, so that any way of cutting a shot gives the same frames, up to rounding and to what
lies more than `context_after` frames ahead.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.anchors import Recorder
from legato.diffusion.augmentation import augment
from legato.diffusion.denoiser import Conditions, Denoiser, Edit, denoise
from legato.diffusion.first_estimate import FirstEstimate
from legato.diffusion.guidance import needs_unconditional
from legato.diffusion.schedule import Schedule, started_part_way
from legato.diffusion.solver import require_second_order
from legato.diffusion.spans import Span, Tile
from legato.errors import InputError
from legato.flow.estimate import FlowEstimator
from legato.pipelines.applied_model import AppliedModel
from legato.pipelines.carried import Carried
from legato.pipelines.decode import (
    BrokenOutputError,
    Finishing,
    finished_chunks,
    is_broken,
)
from legato.pipelines.events import Passes
from legato.pipelines.first_latents import FirstLatents
from legato.pipelines.guided_windows import (
    at_no_step,
    guide_of,
    idle_parts,
    plan_of,
    require_acting,
)
from legato.pipelines.restore_options import (
    RestoreOptions,
    Settings,
    propagation_steps,
    resolve,
)
from legato.pipelines.segment import (
    Layout,
    anchors_of,
    carry,
    kept_predictions,
    num_anchors_after,
)
from legato.pipelines.segment_guidance import SegmentGuidance
from legato.pipelines.segment_propagation import SegmentPropagation
from legato.pipelines.tiles import MULTIPLE, padded, plan_tiles
from legato.pipelines.upscaler import Upscaler
from legato.pipelines.windows import Grid, plan_segment_windows, reference_windows

__all__ = ["BrokenOutputError", "Carried", "RestoreOptions", "Restorer", "is_broken"]

OnPass = Callable[[float | int], None]
LOOK_AHEAD = 12
"""Frames beyond the segment where the backward propagation starts; 0.5^12 of them is left."""


class Restorer:
    """Restores one segment of a shot after another with one model and one set of options.

    Args:
        model: the upscaler, already on `device` in `dtype`.
        options: what the user chose; None in a field means the model's own default.
        device: where to compute. Frames and results live on the CPU.
        dtype: precision of the networks; everything between them is float32.
        estimator: optical flow; called only where propagation is on.
        batches_guidance: whether the U-Net sees prompt and negative prompt in one call: faster,
            with twice the activations.

    Attributes:
        settings: the options after the model's defaults.
        context_before: frames before a segment's first one that the caller should hand over (fewer
            at the start of a shot).
        context_after: frames after its last one. Fewer tell the restorer that the shot ends with
            them.
        scale: output pixels per input pixel, each way.
        is_guided: whether the U-Net sees a negative prompt beside the prompt.
        notices: what of `fresco` never acts.
        approximation: says how far an approximate decoder is from the exact one, as soon as frames
            were decoded; None: it is exact.

    Raises:
        InputError: an option that this model cannot honour, e.g. strength below 1 without encoder.
    """

    def __init__(
        self,
        model: Upscaler,
        options: RestoreOptions,
        *,
        device: torch.device,
        dtype: torch.dtype,
        estimator: FlowEstimator,
        batches_guidance: bool = False,
    ) -> None:
        self._batches_guidance = batches_guidance
        self.settings: Settings = resolve(
            options, model.defaults, has_temporal_layers=model.is_temporal
        )
        self._model, self._options, self._estimator = model, options, estimator
        self._as_reference = options.compat == "reference"
        self._device, self._dtype = device, dtype
        self._schedule = Schedule.from_config(model.schedule)
        self._low_res_schedule = Schedule.from_config(model.low_res_schedule)
        self._timesteps = started_part_way(
            self._schedule.timesteps(self.settings.num_inference_steps),
            options.strength,
            num_train_timesteps=self._schedule.num_train_timesteps,
        )
        require_second_order(options.solver, self._schedule.path(self._timesteps))
        self._propagation = propagation_steps(
            self.settings.propagate, num_inference_steps=len(self._timesteps)
        )
        if options.strength < 1 and model.encode is None:
            raise InputError(
                f"strength={options.strength}",
                why="this model carries no encoder, so it cannot start from the input",
                fix="leave strength at 1, and use the noise level to stay close to the input",
            )
        self.notices = self._require_acting()
        self._texts = self._encoded_texts()
        self.is_guided = len(self._texts.links) > 1
        self._finish = Finishing(
            color=options.color,
            trust=0.0 if self._as_reference else self.settings.trust,
            fidelity=options.fidelity,
            bounds_chroma=options.color != "none" and not self._as_reference,
            fuses=self.settings.fuses,
        )
        self._applied = AppliedModel.of(model, options, self.settings, dtype=dtype)
        self.approximation = self._applied.approximation
        self._first = self._first_latents()
        self._guidance = self._guidance_of(model)
        window, context = self.settings.window, self.settings.context
        self._grid = Grid(size=window, overlap=self.settings.overlap)
        self.scale: int = model.scale
        self.context_before = max(window - 1, context, 1)
        self.context_after = (
            context
            + (LOOK_AHEAD if self._propagation else 0)
            + (window if self.settings.is_joint else 0)
        )

    def __call__(
        self,
        frames: Float[Tensor, "T 3 H W"],
        ticks: Sequence[int],
        *,
        num_anchors: int,
        num_lookahead: int,
        state: Carried | None,
        on_pass: OnPass | None = None,
    ) -> tuple[Float[Tensor, "E 3 sH sW"], Carried]:
        """Return the restored frames of one segment and what the next segment must know.

        Args:
            frames: context before, frames to emit, look-ahead; in [-1, 1].
            ticks: each frame's presentation time in stream ticks (index in image folders): the
                seed of its noise.
            num_anchors: leading frames that the previous segment emitted. At the start of a shot 0,
                else `min(context_before, frames emitted so far)`.
            num_lookahead: trailing frames that belong to later segments: `context_after`, or as
                many as the shot still has.
            state: what the previous segment returned; None at the start of a shot.
            on_pass: told the share of the work that is done after each window of each step and each
                decoded chunk; what it raises stops the work.

        Raises:
            BrokenOutputError: the result is NaN, or black where the input is not.
            InputError: `compat="reference"`, and the segment is not a whole shot.
        """
        chunks, carried = self.stream(
            frames,
            ticks,
            num_anchors=num_anchors,
            num_lookahead=num_lookahead,
            state=state,
            on_pass=on_pass,
        )
        return torch.cat(list(chunks)), carried

    def stream(
        self,
        frames: Float[Tensor, "T 3 H W"],
        ticks: Sequence[int],
        *,
        num_anchors: int,
        num_lookahead: int,
        state: Carried | None,
        on_pass: OnPass | None = None,
    ) -> tuple[Iterator[Float[Tensor, "C 3 sH sW"]], Carried]:
        """Like calling the restorer, but decode lazily: a few frames at a time, in order.

        Prefer it: the segment is never whole in memory at full size. The state is complete at once.
        """
        layout = Layout.of_clip(
            frames.shape[0],
            position=num_anchors if state is None else state.position,
            num_anchors=num_anchors,
            num_lookahead=num_lookahead,
            ends=num_lookahead < self.context_after,
        )
        windows = self._windows(layout, has_state=state is not None)
        used = max(windows[-1].stop, layout.emit_stop - layout.first)
        clip = padded(frames[:used].float().to(self._device))[None]
        size = (frames.shape[-2], frames.shape[-1])
        del frames  # else there are two of each, where the caller has let go as well
        decoder = self._applied.decoder(self._tiles(clip), size)
        emitted = (num_anchors, layout.emit_stop - layout.first)
        passes = len(windows) * len(self._timesteps) * len(self._texts.links)
        passes += decoder.num_pieces(self._finish.needed(emitted, used), used)
        progress = Passes(passes, on_pass)
        denoiser = replace(
            self._denoiser(windows, clip, ticks[:used], progress),
            kept=kept_predictions(state, layout),  # which lets each go once it is merged
            keep_after=emitted[1],
        )
        state = None if state is None else state.without("kept")
        recorder = Recorder(
            stop=emitted[1],
            num_anchors=num_anchors_after(layout, self._grid) if self.settings.is_joint else 0,
            seed_steps=self._propagation,
        )
        anchors = anchors_of(state, layout, num_steps=len(self._timesteps))
        start = self._first(clip, ticks[:used])
        with self._guided(denoiser, clip, start, ticks[:used]) as guided:
            latents = denoise(
                guided,
                start,
                schedule=self._schedule,
                timesteps=self._timesteps,
                solver=self._options.solver,
                hooks=(self._edits(clip, size, layout, state), (anchors, recorder)),
            )
        context = min(self.settings.context, emitted[1])
        carried = carry(
            layout,
            latents=latents[:, emitted[1] - context : emitted[1]] if context else None,
            recorder=recorder,
            kept=denoiser.kept,
        )
        chunks = finished_chunks(
            decoder, (latents, clip), emitted, finish=self._finish, on_chunk=progress.advance
        )
        return chunks, carried

    def _windows(self, layout: Layout, *, has_state: bool) -> list[Span]:
        if self._as_reference:
            if layout.num_anchors > 0 or layout.stop > layout.emit_stop:
                raise InputError(
                    "compat='reference'",
                    why="the reference computes a whole shot at once, and a segment is shorter",
                    fix="use a --segment as long as the longest shot, or a shorter range",
                )
            grid = self._grid
            return reference_windows(layout.stop - layout.first, size=grid.size, stride=grid.stride)
        beyond = self.settings.context + (LOOK_AHEAD if self._propagation else 0)
        start = layout.position if has_state else layout.first
        return plan_segment_windows(
            layout.first,
            layout.stop,
            self._grid,
            needed=(start, min(layout.emit_stop + beyond, layout.stop)),
            ends=layout.ends,
        )

    def _denoiser(
        self,
        windows: Sequence[Span],
        clip: Float[Tensor, "1 T 3 h w"],
        ticks: Sequence[int],
        progress: Passes,
    ) -> Denoiser:
        level = self.settings.noise_level
        noise = self._first.noise("low_res", 3, clip, ticks)
        return Denoiser(
            network=self._applied.predict,
            conditions=replace(
                self._texts,
                low_res=augment(clip, noise, level=level, schedule=self._low_res_schedule).to(
                    self._dtype  # as the network sees it: half the memory
                ),
                noise_level=level,
            ),
            windows=windows,
            tiles=self._tiles(clip),
            dtype=self._dtype,
            batches_guidance=self._batches_guidance,
            on_window=progress.advance,
        )

    def _encoded_texts(self) -> Conditions:
        """Return what the network is told by words."""
        scale, encode = self.settings.guidance_scale, self._model.encode_prompt
        negative = self._options.negative_prompt
        return Conditions(
            prompt=encode(self._options.prompt),
            negative_prompt=encode(negative) if needs_unconditional(scale) else None,
            guidance_scale=scale,
        )

    def _require_acting(self) -> list[str]:
        """Refuse a part of FRESCO that was named and acts at no step; tell of others."""
        steps = {
            "num_executed": len(self._timesteps),
            "num_steps": self.settings.num_inference_steps,
        }
        chosen = self.settings.chosen
        idle = idle_parts(chosen, plan=plan_of(chosen), **steps)
        require_acting(
            self._options.consistency or "", idle, strength=self._options.strength, **steps
        )
        return [f"{name} acts {at_no_step(**steps)}" for name in idle]

    def _first_latents(self) -> FirstLatents:
        return FirstLatents(
            encode=self._model.encode,
            channels=self._model.latent_channels,
            scale=self._model.scale,
            schedule=self._schedule,
            timesteps=self._timesteps,
            strength=self._options.strength,
            seed=self._options.seed,
            shares_noise="shared-noise" in self.settings.chosen,
            device=self._device,
            dtype=self._dtype,
        )

    def _guidance_of(self, model: Upscaler) -> SegmentGuidance | None:
        fresco = guide_of(model.unet.spatial, self.settings.chosen)
        if fresco is None:
            return None
        return SegmentGuidance(
            network=self._applied.predict,
            fresco=fresco,
            estimator=self._estimator,
            first=self._first,
            carries_background="background" in self.settings.chosen,
            num_steps=self.settings.num_inference_steps,
        )

    def _guided(
        self,
        denoiser: Denoiser,
        clip: Float[Tensor, "1 T 3 h w"],
        start: Float[Tensor, "1 T C h w"],
        ticks: Sequence[int],
    ) -> AbstractContextManager[Denoiser]:
        """Let the frames of each window see each other, where the options say so."""
        if self._guidance is None:
            return nullcontext(denoiser)
        return self._guidance.guiding(denoiser, clip, start, ticks)

    def _tiles(self, clip: Float[Tensor, "1 T 3 h w"]) -> list[Tile]:
        rows, cols = clip.shape[-2:]
        return plan_tiles(rows, cols, tile=self.settings.tile, multiple=MULTIPLE)

    def _edits(
        self,
        clip: Float[Tensor, "1 T 3 h w"],
        size: tuple[int, int],
        layout: Layout,
        state: Carried | None,
    ) -> list[Edit]:
        """Return the first estimate's share in the last, and the propagation of what that gives."""
        edits: list[Edit] = []
        share, has_later = self.settings.first_estimate_share, len(self._timesteps) > 1
        if share and has_later and self._schedule.is_blind(self._timesteps[0]):
            edits.append(FirstEstimate(share))
        if self._propagation and clip.shape[1] > 1:
            carrying = SegmentPropagation(estimator=self._estimator, steps=self._propagation)
            edits.append(carrying.edit(clip, size, layout, state))
        return edits
