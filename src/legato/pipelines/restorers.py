"""Restorers for one job: the model loaded once per precision, with what a fallback asks for."""

from dataclasses import dataclass, field, replace
from functools import partial

import torch

from legato.device import available_memory_bytes, choose_dtype
from legato.flow.estimate import choose_estimator
from legato.models.load import load_upscaler
from legato.models.upscaler import UpscalerModel
from legato.pipelines.decode import frames_decoded, frames_finished
from legato.pipelines.memory import (
    ActivationMeter,
    Footprint,
    Shape,
    bytes_per_pixel,
    choose_size,
    estimate_bytes,
    smaller_tiles,
)
from legato.pipelines.restore import Restorer
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.saved_plan import Execution
from legato.video.codecs import CodecName
from legato.video.probe import VideoFacts

METERED_SIDE = 64  # input pixels: small enough to cost little, a multiple of every U-Net's strides
LIVE_SHARE = 4.0  # peak of live activations over the largest call's input and output, measured


@dataclass(kw_only=True)
class Restorers:
    """Makes restorers for one model, one set of options and one device."""

    model_name: str
    options: RestoreOptions
    device: torch.device
    _models: dict[str, UpscalerModel] = field(default_factory=dict)

    def model(self, dtype: str) -> UpscalerModel:
        """Return the model in a precision; earlier ones are let go.

        Raises:
            ModelError: it is missing, damaged or of the wrong kind.
        """
        if dtype not in self._models:
            self._models.clear()
            self._models[dtype] = load_upscaler(
                self.model_name, self.device, choose_dtype(dtype, self.device)
            )
        return self._models[dtype]

    def __call__(self, execution: Execution, prompt: str | None = None) -> Restorer:
        """Return a restorer that computes in this way.

        Args:
            execution: the way.
            prompt: instead of that of the options.

        Raises:
            InputError: an option that the model cannot honour.
        """
        options = replace(self.options, tile=execution.tile, window=execution.window)
        options = options if prompt is None else replace(options, prompt=prompt)
        return self._restorer(options, execution.dtype)

    def _restorer(self, options: RestoreOptions, dtype: str) -> Restorer:
        return Restorer(
            self.model(dtype),
            options,
            device=self.device,
            dtype=choose_dtype(dtype, self.device),
            estimator=choose_estimator("dis", device=self.device),
        )

    def identity(self, dtype: str) -> dict[str, str]:
        """Return what tells this model from another: name, licence and a hash of its files."""
        model = self.model(dtype)
        return {"name": model.name, "licence": model.licence, "sha256": model.sha256}

    def footprint(self, execution: Execution) -> Footprint:
        """Measure what the model's activations take, on a small frame of noise and one step."""
        options = replace(self.options, num_inference_steps=1, propagate=None, strength=1.0, tile=0)
        restorer = self._restorer(options, execution.dtype)
        model = self.model(execution.dtype)
        noise = torch.rand(1, 3, METERED_SIDE, METERED_SIDE) * 2 - 1
        with (
            ActivationMeter(model.unet) as denoising,
            ActivationMeter(model.autoencoder) as decoding,
        ):
            restorer(noise, range(1), num_anchors=0, num_lookahead=0, state=None)
        parameters = [*model.unet.parameters(), *model.autoencoder.parameters()]
        return Footprint(
            fixed=sum(p.nelement() * p.element_size() for p in parameters),
            denoising=LIVE_SHARE * denoising.largest / METERED_SIDE**2,
            decoding=LIVE_SHARE * decoding.largest / METERED_SIDE**2,
        )


def fit_into_memory(
    restorers: Restorers,
    wanted: Execution,
    facts: VideoFacts,
    codec: CodecName,
    *,
    longest_shot: int,
) -> tuple[Execution, int]:
    """Return the wanted way of computing with the largest tile and segment that fit, and its bytes.

    Args:
        restorers: of the job.
        wanted: tile, window, segment and precision as asked for.
        facts: of the source.
        codec: of the output.
        longest_shot: frames of the longest shot in the range; none is looked at beyond a cut.

    Raises:
        ResourceError: even the smallest tile and segment need too much; says how much.
    """
    restorer = restorers(wanted)
    footprint = restorers.footprint(wanted)
    settings = restorer.settings
    streams = settings.is_temporal and restorers.model(wanted.dtype).streams
    clip_bytes = bytes_per_pixel(
        num_steps=settings.num_inference_steps,
        propagates=settings.propagate != "none",
        looks_back=restorers.options.solver != "ddim",
    )

    def estimate(tile: int | None, segment: int) -> int:
        frames = segment + restorer.context_before + restorer.context_after
        shape = Shape(
            rows=facts.height,
            cols=facts.width,
            frames=min(frames, longest_shot),
            scale=restorer.scale,
            window=settings.window,
            clip_bytes=clip_bytes,
            codec=codec,
        )
        return estimate_bytes(
            footprint,
            shape,
            tile=tile,
            frames_decoded=partial(
                frames_decoded, context=settings.decoder_context, streams=streams
            ),
            num_finished=frames_finished(shape.rows * shape.cols * shape.scale**2),
        )

    size = (facts.width, facts.height)
    usual = settings.tile or None  # the model's own, where the user named none
    tiles = [usual] if wanted.tile is not None else [usual, *smaller_tiles(usual, size)]
    available = available_memory_bytes(restorers.device)
    tile, segment = choose_size(estimate, tiles, wanted.segment, size=size, available=available)
    chosen = wanted.tile if tile == usual else tile
    return replace(wanted, tile=chosen, segment=segment), estimate(tile, segment)
