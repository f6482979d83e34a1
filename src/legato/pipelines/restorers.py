"""Restorers for one job: the model loaded once per precision, with what a fallback asks for."""

from dataclasses import dataclass, field, replace

import torch

from legato.device import available_memory_bytes, choose_dtype
from legato.flow.estimate import choose_estimator
from legato.models.load import load_upscaler
from legato.models.upscaler import UpscalerModel
from legato.pipelines.memory import (
    SHARE,
    ActivationMeter,
    Footprint,
    Shape,
    choose_tile,
    estimate_bytes,
)
from legato.pipelines.restore import Restorer
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.saved_plan import Execution
from legato.video.probe import VideoFacts

METERED_SIDE = 32  # input pixels: small enough to cost little, a multiple of every U-Net's strides
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

    def __call__(self, execution: Execution) -> Restorer:
        """Return a restorer that computes in this way.

        Raises:
            InputError: an option that the model cannot honour.
        """
        options = replace(self.options, tile=execution.tile, window=execution.window)
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
        """Measure what the model's activations take, on a small clip of noise and one step."""
        options = replace(
            self.options,
            num_inference_steps=1,
            propagate=None,
            strength=1.0,
            tile=0,
            window=execution.window,
        )
        restorer = self._restorer(options, execution.dtype)
        window = restorer.settings.window
        clip = torch.rand(window, 3, METERED_SIDE, METERED_SIDE) * 2 - 1
        with ActivationMeter() as meter:
            restorer(clip, range(window), num_anchors=0, num_lookahead=0, state=None)
        model = self.model(execution.dtype)
        cells = METERED_SIDE**2 * window
        return Footprint(
            fixed=sum(p.nelement() * p.element_size() for p in model.unet.parameters()),
            per_cell=LIVE_SHARE * meter.largest / cells,
        )


def fit_into_memory(
    restorers: Restorers, wanted: Execution, facts: VideoFacts, *, segment: int
) -> tuple[Execution, int]:
    """Return the wanted way of computing with the largest tile that fits, and its bytes.

    Args:
        restorers: of the job.
        wanted: tile, window and precision as asked for.
        facts: of the source.
        segment: frames in a segment.

    Raises:
        ResourceError: even the smallest tile needs too much; says how much.
    """
    restorer = restorers(wanted)
    footprint = restorers.footprint(wanted)
    frames = segment + restorer.context_before + restorer.context_after
    if facts.kind != "video" and facts.num_frames_estimate is not None:
        frames = min(frames, facts.num_frames_estimate)
    shape = Shape(rows=facts.height, cols=facts.width, frames=frames, scale=restorer.scale)
    window = restorer.settings.window

    def estimate(tile: int | None) -> int:
        return estimate_bytes(footprint, shape, tile=tile, window=window)

    available = available_memory_bytes(restorers.device)
    usual = restorer.settings.tile or None  # the model's own, where the user named none
    if wanted.tile is None and estimate(usual) <= SHARE * available:
        return wanted, estimate(usual)
    tile = choose_tile(estimate, shape, wanted=wanted.tile, available=available)
    return replace(wanted, tile=tile), estimate(tile)
