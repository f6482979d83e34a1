"""Restorers for one job: the model loaded once per precision, with what a fallback asks for."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from legato.device import (
    available_memory_bytes,
    choose_device,
    choose_dtype,
    largest_int8_weight,
)
from legato.diffusion.guidance import needs_unconditional
from legato.errors import InputError, ResourceError
from legato.flow.estimate import FlowEstimator, estimator_by
from legato.flow.raft import bytes_of_pair
from legato.models.compiled import compile_blocks_, require_compiler
from legato.models.folder import ModelFolder
from legato.models.int8_conv import use_int8_convs_
from legato.models.load import load_upscaler, offloaded
from legato.models.parts import is_small
from legato.models.spec import find_folder
from legato.models.tiny_autoencoder import TinyAutoencoder
from legato.models.upscaler import UpscalerModel
from legato.pipelines.consistency import sees_other_frames
from legato.pipelines.decode import frames_decoded, frames_finished
from legato.pipelines.memory import (
    FEATURE_BYTES,
    LIVE_SHARE,
    SHARE,
    ActivationMeter,
    Footprint,
    Shape,
    bytes_per_pixel,
    choose_size,
    estimate_bytes,
    memory_errors,
    smaller_tiles,
)
from legato.pipelines.restore import Restorer
from legato.pipelines.restore_options import RestoreOptions, Settings
from legato.pipelines.run_options import RunOptions
from legato.pipelines.saved_plan import Execution
from legato.pipelines.upscale_options import UpscaleOptions
from legato.video.codecs import CodecName
from legato.video.probe import VideoFacts

METERED_SIDE = 64  # input pixels: small enough to cost little, a multiple of every U-Net's strides
INT8 = "int8"
"""A precision: convolutions multiply 8-bit integers, and the rest is float32."""
STRIPS_SHARE = 1.3  # the same over the widest map of a decoder that works in strips


@dataclass(kw_only=True)
class Restorers:
    """Makes restorers for one model, one set of options and one device."""

    model_name: str
    options: RestoreOptions
    device: torch.device
    is_captioned: bool = False
    """Whether captions will give the prompts, which are not known before."""
    compiles: bool = False
    """Whether the U-Net's blocks are compiled."""
    _models: dict[str, UpscalerModel] = field(default_factory=dict)
    _estimator: FlowEstimator | None = field(default=None, init=False)

    @classmethod
    def of(cls, options: UpscaleOptions, run: RunOptions) -> "Restorers":
        """Return those of a job.

        Raises:
            ResourceError: the device is not there, or blocks cannot be compiled for it.
        """
        device = choose_device(run.device)
        if run.compile:
            require_compiler(device)
        return cls(
            model_name=options.model,
            options=options.restore,
            device=device,
            is_captioned=options.caption is not None,
            compiles=run.compile,
        )

    def precision(self, name: str) -> str:
        """Return the named precision; `auto` takes what is fastest for this model and device.

        Raises:
            InputError: there is none of that name, or not for this model on this device.
            ModelError: the model is missing or damaged.
        """
        whole = self.device.type == "cpu" and largest_int8_weight() > 0
        whole = whole and is_small(ModelFolder(find_folder(self.model_name)))
        if name == INT8 and not whole:
            raise InputError(
                f"dtype={name!r}",
                why="only models like the embedded one have it, on a CPU with VNNI or AVX2 alone",
                fix="use auto or float32",
            )
        if name == INT8:
            return name
        found = str(choose_dtype(name, self.device)).removeprefix("torch.")
        return INT8 if whole and name == "auto" and found == "float32" else found

    def uncompiled(self) -> AbstractContextManager[None]:
        """Within the block, nothing is compiled, and blocks compute as if they were not."""
        if not self.compiles:
            return nullcontext()  # what the other needs takes a second to import
        stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
        return stance

    def _dtype(self, precision: str) -> torch.dtype:
        return torch.float32 if precision == INT8 else choose_dtype(precision, self.device)

    def model(self, dtype: str, *, offload: bool = False) -> UpscalerModel:
        """Return the model in a precision; earlier ones are let go.

        Args:
            dtype: the precision.
            offload: whether from now on only the part at work shall be in memory.

        Raises:
            InputError: blocks shall be compiled that cannot be.
            ModelError: it is missing, damaged or of the wrong kind.
        """
        if dtype == INT8 and self.compiles:
            raise InputError(
                "compile=True",
                why="convolutions of 8-bit integers, as this model has them here, are not compiled",
                fix="leave it out, or use --dtype float32",
            )
        if dtype not in self._models:
            self._models.clear()
            fresh = load_upscaler(self.model_name, self.device, self._dtype(dtype))
            if dtype == INT8:
                assert isinstance(fresh.autoencoder, TinyAutoencoder)
                for part in (fresh.unet.spatial, fresh.autoencoder.decoder):
                    use_int8_convs_(part, largest_int8_weight())
            if self.compiles:
                compile_blocks_(fresh.unet)
            self._models[dtype] = fresh
        model = self._models[dtype]
        if offload and model.offload is None:
            model = self._models[dtype] = offloaded(
                model, self.model_name, self.device, self._dtype(dtype)
            )
        return model

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
        return self._restorer(options, execution)

    def _restorer(self, options: RestoreOptions, execution: Execution) -> Restorer:
        restorer = Restorer(
            self.model(execution.dtype, offload=execution.offload),
            options,
            device=self.device,
            dtype=self._dtype(execution.dtype),
            estimator=self._flow(),
            batches_guidance=execution.batches_guidance,
        )
        if self.compiles and sees_other_frames(restorer.settings.chosen):
            raise InputError(
                f"compile=True and consistency={options.consistency}",
                why="attention between frames changes the blocks at every step",
                fix="leave one of them out",
            )
        return restorer

    def _flow(self) -> FlowEstimator:
        """Return what estimates flow; its weights are read once."""
        if self._estimator is None:
            self._estimator = estimator_by(self.options.raft, self.device)
        return self._estimator

    def flow_bytes(self, rows: int, cols: int) -> int:
        """Return about what the flow of a pair of frames of this size takes beside the frames."""
        return 0 if self.options.raft is None else bytes_of_pair(rows, cols)

    def may_guide(self, restorer: Restorer) -> bool:
        """Tell whether the U-Net will see a negative prompt beside some prompt."""
        is_asked = needs_unconditional(restorer.settings.guidance_scale)
        return restorer.is_guided or (is_asked and self.is_captioned)

    def identity(self, dtype: str) -> dict[str, str]:
        """Return what tells this model from another: name, licence and a hash of its files."""
        model = self.model(dtype)
        return {"name": model.name, "licence": model.licence, "sha256": model.sha256}

    def footprint(self, execution: Execution) -> Footprint:
        """Measure what the model's activations take, on a small frame of noise and one step."""
        one = replace(self.options, num_inference_steps=1, solver="ddim", propagate=None, raft=None)
        options = replace(one, strength=1.0, tile=0)
        restorer = self._restorer(options, execution)
        model = self.model(execution.dtype)
        noise = torch.rand(1, 3, METERED_SIDE, METERED_SIDE) * 2 - 1
        with (
            self.uncompiled(),
            ActivationMeter(model.unet) as denoising,
            ActivationMeter(model.autoencoder) as decoding,
        ):
            restorer(noise, range(1), num_anchors=0, num_lookahead=0, state=None)
        unet, decoder = (
            sum(p.nelement() * p.element_size() for p in part.parameters())
            for part in (model.unet, model.autoencoder)
        )
        denoised = LIVE_SHARE * denoising.largest
        if "features" in restorer.settings.chosen:  # about half of a call is what goes in
            itemsize = next(model.unet.parameters()).element_size()
            denoised += FEATURE_BYTES * denoising.largest / (2 * itemsize)
        per_cell = LIVE_SHARE * decoding.largest / METERED_SIDE**2
        if model.decoder_width is not None:
            itemsize = next(model.autoencoder.parameters()).element_size()
            per_cell = STRIPS_SHARE * model.decoder_width * itemsize
        held = 0
        if model.held_values is not None:
            held = model.held_values * next(model.autoencoder.parameters()).element_size()
        return Footprint(
            unet=unet,
            decoder=decoder,
            denoising=denoised / METERED_SIDE**2,
            decoding=per_cell,
            held=held,
            offload=execution.offload,
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

    Parts leave memory where that allows larger tiles or segments than keeping them. With guidance,
    prompt and negative prompt go in one batch where twice the activations fit beside all this.

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
    settings, model = restorer.settings, restorers.model(wanted.dtype)
    clip_bytes = bytes_per_pixel(
        num_steps=settings.num_inference_steps,
        propagates=settings.propagate != "none",
        looks_back=restorers.options.solver != "ddim",
        is_guided=sees_other_frames(settings.chosen),
        keeps_first=settings.first_estimate_share > 0,
        latent_channels=model.latent_channels,
    )

    def estimate(footprint: Footprint, tile: int | None, segment: int) -> int:
        shape = Shape(
            rows=facts.height,
            cols=facts.width,
            frames=min(segment + restorer.context_before + restorer.context_after, longest_shot),
            scale=restorer.scale,
            window=settings.window,
            clip_bytes=clip_bytes,
            latent_channels=model.latent_channels,
            codec=codec,
            fuses=settings.fuses,
            flow=restorers.flow_bytes(facts.height, facts.width),
        )
        return estimate_bytes(
            footprint,
            shape,
            tile=tile,
            frames_decoded=_frames_decoded(settings, model),
            num_finished=frames_finished(shape.rows * shape.cols * shape.scale**2),
        )

    size = (facts.width, facts.height)
    usual = settings.tile or None  # the model's own, where the user named none
    tiles = [usual] if wanted.tile is not None else [usual, *smaller_tiles(usual, size)]
    available = available_memory_bytes(restorers.device)

    def choose(footprint: Footprint) -> tuple[int | None, int]:
        fits = partial(estimate, footprint)
        return choose_size(fits, tiles, wanted.segment, size=size, available=available)

    footprint, tile, segment = _kept_or_offloaded(_measured(restorers, wanted, facts), choose)
    own = wanted.tile if tile == usual else tile
    chosen = replace(wanted, tile=own, segment=segment, offload=footprint.offload)
    doubled = replace(footprint, denoising=2 * footprint.denoising)
    if restorers.may_guide(restorer) and estimate(doubled, tile, segment) <= SHARE * available:
        footprint, chosen = doubled, replace(chosen, batches_guidance=True)
    return chosen, estimate(footprint, tile, segment)


def _measured(restorers: Restorers, wanted: Execution, facts: VideoFacts) -> Footprint:
    """Return what the model's activations take.

    Raises:
        ResourceError: memory ran out while they were measured.
    """
    with memory_errors(
        f"{facts.path}",
        why="even a frame so small that it only shows the need does not fit beside the model",
        fix="free memory" if wanted.offload else "free memory, or use --offload",
    ):
        return restorers.footprint(wanted)


def _frames_decoded(settings: Settings, model: UpscalerModel) -> Callable[[int, int], int]:
    """Return how many frames are decoded at a time, of the cells in a tile and a frame."""
    return partial(
        frames_decoded,
        context=settings.decoder_context,
        streams=settings.is_temporal and model.held_values is not None,
        at_full_size=model.decoder_width is not None,
    )


def _kept_or_offloaded(
    footprint: Footprint, choose: Callable[[Footprint], tuple[int | None, int]]
) -> tuple[Footprint, int | None, int]:
    """Return how the model's parts are held, and the tile and segment that then fit.

    Raises:
        ResourceError: nothing fits either way.
    """
    lean = replace(footprint, offload=True)
    try:
        kept = choose(footprint)
    except ResourceError:
        return lean, *choose(lean)
    return (footprint, *kept) if choose(lean) == kept else (lean, *choose(lean))
