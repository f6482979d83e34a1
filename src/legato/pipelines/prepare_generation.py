"""From words and options to a video that can be made; what must be refused is refused here."""

from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from legato.device import choose_device, choose_dtype
from legato.diffusion.noise import NoisePrior
from legato.diffusion.schedule import Schedule
from legato.models.box_layout import box_maps
from legato.models.generator import GeneratorModel
from legato.models.generator_folder import load_generator
from legato.models.lora import add_lora_
from legato.pipelines.box_file import read_boxes
from legato.pipelines.clip_sampler import ClipSampler
from legato.pipelines.events import Event, OnEvent, notice
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation import Generation
from legato.pipelines.generation_job import GenerationJob
from legato.pipelines.generation_limits import require_memory, require_sides
from legato.pipelines.generation_request import examine
from legato.pipelines.generation_settings import Settings, resolve, untold
from legato.pipelines.given_frame import read_given_frame
from legato.pipelines.picture_generation import PictureGeneration
from legato.pipelines.run_options import RunOptions
from legato.pipelines.upscale_options import UpscaleOptions, output_size
from legato.pipelines.workfolder import WorkFolder
from legato.video.codecs import CodecOptions, losses, require_size, segment_suffix
from legato.video.colour import BT709, ColourTags
from legato.video.probe import VideoFacts

LOSSLESS = CodecOptions(codec="ffv1")
"""Of what the upsampler reads."""


def prepare(
    prompt: str, target: Path, options: GenerateOptions, run: RunOptions, on_event: OnEvent
) -> GenerationJob:
    """Load the model and refuse what it cannot make.

    Raises:
        InputError: a word, an option or the target cannot be used.
        ModelError: the model or one of its stages is missing.
        ResourceError: memory does not suffice for frames of this size.
    """
    final = examine(target, options, run)
    boxes = None if options.boxes is None else read_boxes(options.boxes)
    require_sides(options)
    device = choose_device(run.device)
    dtype = choose_dtype(run.dtype, device)
    on_event(Event(stage="load", message=f"model {options.model}"))
    model = load_generator(options.model, device, dtype, spatial=options.spatial)
    settings = resolve(options, model, prompt)
    facts = generated_facts(target, settings)
    size = (facts.width, facts.height)
    made = output_size(facts, UpscaleOptions()) if settings.upsampler else size
    require_size(final, target, size=made)
    require_memory(model, settings, device)
    if settings.upsampler is None:
        run.refuse_upscaling()
    if options.motion_lora is not None:
        add_lora_(model.unet.temporal, (), options.motion_lora, scale=options.motion_lora_scale)
    codec = LOSSLESS if settings.upsampler else final
    folder = WorkFolder(target, suffix=segment_suffix(codec, facts))
    ends: dict[str, Tensor] = {}
    notices = untold(options, settings, model)
    for name, path in (("first", options.first_frame), ("last", options.last_frame)):
        if path is not None:
            ends[name], fitted = read_given_frame(path, (settings.width, settings.height))
            notices += [fitted] if fitted else []
    kind = Generation if model.picture is None else PictureGeneration
    rows, columns = settings.height // model.scale, settings.width // model.scale
    notices += losses(codec, facts, target, size=size)
    return GenerationJob(
        prompt=prompt,
        target=target,
        options=options,
        run=run,
        on_event=on_event,
        model=model,
        settings=settings,
        generation=kind(
            model=model,
            settings=settings,
            sampler=_sampler(prompt, options, settings, model, (device, dtype)),
            folder=folder,
            first_frame=ends.get("first"),
            last_frame=ends.get("last"),
            aiming=options.reconstruction_guidance,
            boxes=None if boxes is None else box_maps(boxes, rows, columns)[None],
        ),
        folder=folder,
        facts=facts,
        codec=codec,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        notices=[notice(on_event, sentence) for sentence in notices],
    )


def _sampler(
    prompt: str,
    options: GenerateOptions,
    settings: Settings,
    model: GeneratorModel,
    computing: tuple[torch.device, torch.dtype],
) -> ClipSampler:
    return ClipSampler(
        schedule=Schedule.from_config(model.schedule),
        num_inference_steps=settings.num_inference_steps,
        solver=options.solver,
        prompt=model.encode_prompt(prompt),
        negative_prompt=model.encode_prompt(options.negative_prompt),
        temporal_prompt=model.encode_temporal_prompt(prompt),
        temporal_negative_prompt=model.encode_temporal_prompt(options.negative_prompt),
        guidance_scale=settings.guidance_scale,
        prior=NoisePrior(kind=model.defaults.noise_prior, strength=model.defaults.noise_strength),
        seed=options.seed,
        device=computing[0],
        dtype=computing[1],
    )


def generated_facts(target: Path, settings: Settings) -> VideoFacts:
    """Return the facts of a video that has no source: no streams beside it, exact times."""
    rate = settings.frame_rate
    return VideoFacts(
        path=target,
        kind="images",
        width=settings.width,
        height=settings.height,
        frame_rate=rate,
        time_base=Fraction(1, rate.numerator),
        seekable=False,
        num_frames_estimate=settings.timeline.num_frames,
        duration_seconds=settings.timeline.num_frames / rate,
        promised_seconds=None,
        rotation_deg=0,
        display_matrix=None,
        sample_aspect=Fraction(1),
        bit_depth=8,
        has_alpha=False,
        interlaced="progressive",
        colour=ColourTags(matrix=BT709, primaries=BT709, transfer=BT709, full_range=False),
        stream_index=0,
        streams=(),
        container="images",
        codec="",
        pixel_format="",
    )
