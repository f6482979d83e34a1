"""From a source and options to a translation that can run; what must be refused is refused here."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from legato.device import choose_device, choose_dtype
from legato.diffusion.schedule import Schedule
from legato.diffusion.solver import require_second_order
from legato.flow.estimate import estimator_by
from legato.models.controlnet import load_controlnet
from legato.models.folder import hash_file
from legato.models.image_model import ImageModel, load_image_model
from legato.models.lora import add_lora_
from legato.models.text import WordEncoder
from legato.pipelines.events import Event, OnEvent, notice
from legato.pipelines.guided_batch import BatchGuide
from legato.pipelines.guided_windows import at_no_step, idle_parts, require_acting
from legato.pipelines.hints import GivenHints, open_hints
from legato.pipelines.in_between import FlowBlend
from legato.pipelines.keyframe_reader import eight_bits, frames_from
from legato.pipelines.keyframe_sampler import KeyframeSampler
from legato.pipelines.keyframes import measure_changes
from legato.pipelines.limits import require_needed
from legato.pipelines.output import bytes_on_disk, require_space
from legato.pipelines.saved_plan import folder_fingerprint, require_same, source_fingerprint
from legato.pipelines.survey import Survey, survey
from legato.pipelines.translate_options import TranslateOptions
from legato.pipelines.translation_job import TranslationJob
from legato.pipelines.translation_plan import TranslationPlan, choose_keys
from legato.pipelines.translation_request import TranslationRequest
from legato.video.frame import Frame
from legato.video.probe import VideoFacts, probe

FREEU = {"s1": 1.0, "s2": 1.0, "b1": 1.2, "b2": 1.5}
"""Factors of skip and own features at the two coarsest levels, as FRESCO's."""


def prepare(request: TranslationRequest, on_event: OnEvent) -> TranslationJob:
    """Load the model and make or take over the plan; the work folder is there and locked.

    Raises:
        InputError: an unfinished job that differs lies there; nothing in range; a word or a file.
        ModelError: a model is missing, damaged or does not fit.
        ResourceError: the disk does not suffice.
    """
    facts, folder = request.facts, request.folder
    device = choose_device(request.run.device)
    dtype = choose_dtype(request.run.dtype, device)
    on_event(Event(stage="load", message=f"model {request.options.model}"))
    hints = None
    if request.options.controlnet is not None:
        hints = open_hints(request.options.hint, request.options.hint_model, device)
    model = load_model(request.options, device, dtype)
    sampler = make_sampler(model, request.options, device, dtype)
    options = sampler.options
    request = replace(request, options=options)
    fingerprint = _fingerprint(request, model, (device, dtype))
    plan = TranslationPlan.load(folder.plan)
    if plan is None:
        plan = make_plan(request, fingerprint, on_event)
        num_frames, size = plan.survey.num_frames, (facts.width, facts.height)
        needed = bytes_on_disk(facts, request.codec, size=size, num_frames=num_frames)
        require_space(folder.path, needed)
        plan.save(folder.plan)
    require_same(plan.fingerprint, fingerprint, folder.path)
    if isinstance(hints, GivenHints):
        hints.require_fitting(facts, plan.survey.num_frames)
    sentences = [*request.notices, *plan.survey.notices, *_unused_prompts(options, facts, plan)]
    never = at_no_step(len(sampler.timesteps), options.num_inference_steps)
    sentences += [f"{name} acts {never}" for name in _idle(sampler)]
    return TranslationJob(
        facts=facts,
        options=options,
        run=request.run,
        on_event=on_event,
        plan=plan,
        folder=folder,
        sampler=sampler,
        hints=hints,
        interpolate=FlowBlend(sampler.guide.estimate),
        codec=request.codec,
        size_computed=size_computed(facts, options, model),
        notices=[notice(on_event, sentence) for sentence in sentences],
    )


def _unused_prompts(
    options: TranslateOptions, facts: VideoFacts, plan: TranslationPlan
) -> list[str]:
    """Return a sentence for each prompt that no key frame gets."""
    pts, starts = plan.survey.pts, [since for since, _ in options.prompts()]
    times = [(pts[key] - pts[0]) * facts.time_base for key in plan.all_keys]
    said = []
    for since, end in zip(starts, [*starts[1:], None], strict=True):
        if not any(since <= time and (end is None or time < end) for time in times):
            stop = "the end" if end is None else f"the next one at {float(end):.3g} s"
            said.append(
                f"the prompt at {float(since):.3g} s is not used: no key frame lies between it "
                f"and {stop}"
            )
    return said


def _idle(sampler: KeyframeSampler) -> list[str]:
    """Return the chosen parts of FRESCO that act at no step."""
    options = sampler.options
    return idle_parts(
        options.chosen,
        num_executed=len(sampler.timesteps),
        num_steps=options.num_inference_steps,
    )


def _require_acting(sampler: KeyframeSampler) -> None:
    """Refuse a part of FRESCO that acts at no step and was named, or values of it.

    Raises:
        InputError: names it.
    """
    options, idle = sampler.options, _idle(sampler)
    require_acting(
        options.consistency,
        idle,
        strength=options.strength,
        num_executed=len(sampler.timesteps),
        num_steps=options.num_inference_steps,
    )
    acts = "features" not in idle
    require_needed(options, [("preset", "a --strength at which features act", acts)])


def load_model(options: TranslateOptions, device: torch.device, dtype: torch.dtype) -> ImageModel:
    """Return the image model as the options change it.

    Raises:
        ModelError: the model or its LoRA is missing, damaged or does not fit.
    """
    assert options.model is not None
    model = load_image_model(options.model, device, dtype)
    if options.lora is not None:
        texts = () if isinstance(model.text, WordEncoder) else model.text.encoders
        add_lora_(model.unet.spatial, texts, options.lora, scale=options.lora_scale)
    if options.freeu:
        model.unet.spatial.enable_freeu(**FREEU)  # type: ignore[operator]
    return model


def make_sampler(
    model: ImageModel, options: TranslateOptions, device: torch.device, dtype: torch.dtype
) -> KeyframeSampler:
    """Return what translates batches of key frames, with the model's defaults.

    Raises:
        InputError: the model's defaults contradict what was chosen; a prompt has a word that the
            model does not know; more steps than it can make, or fewer than what was named acts at.
        ModelError: the ControlNet is missing or does not fit, or frames cannot be held together.
    """
    if options.guidance_scale is None:
        options = replace(options, guidance_scale=model.defaults.translation_guidance)
    controlnet = None
    if options.controlnet is not None:
        controlnet = load_controlnet(
            options.controlnet, model, scale=options.control_scale, device=device, dtype=dtype
        )
    for prompt in (options.negative_prompt, *(text for _, text in options.prompts())):
        model.encode_prompt(prompt)
    sampler = KeyframeSampler(
        model=model,
        options=options,
        guide=BatchGuide(
            model=model,
            chosen=options.chosen,
            preset=options.preset,
            estimate=estimator_by(options.raft, device),
        ),
        schedule=Schedule.from_config(model.schedule),
        controlnet=controlnet,
        device=device,
        dtype=dtype,
    )
    path = sampler.schedule.path(sampler.timesteps)  # refuses too many steps before any work
    if options.solver != "ddpm":
        require_second_order(options.solver, path)
    _require_acting(sampler)
    return sampler


def make_plan(
    request: TranslationRequest, fingerprint: dict[str, Any], on_event: OnEvent
) -> TranslationPlan:
    """Read the range twice: for times and shots, then for how much each frame differs.

    Raises:
        InputError: the range holds no frame.
    """
    options, facts = request.options, request.facts
    found = survey(
        facts,
        read=options.read,
        start=options.start_seconds,
        end=options.end_seconds,
        on_event=on_event,
    )
    changes = measure_changes(
        eight_bits(frame) for frame in _all_frames(facts, options, found, on_event)
    )
    keys = choose_keys(changes, found.shots, options.keyframes)
    return TranslationPlan(fingerprint=fingerprint, survey=found, keys=keys)


def size_computed(
    facts: VideoFacts, options: TranslateOptions, model: ImageModel
) -> tuple[int, int]:
    """Return width and height of the pictures that the model works on: multiples that it takes."""
    shrink = (options.resolution or model.short_side) / min(facts.width, facts.height)
    multiple = model.multiple
    width, height = (
        max(round(side * shrink / multiple), 1) * multiple for side in (facts.width, facts.height)
    )
    return width, height


def _all_frames(
    facts: VideoFacts, options: TranslateOptions, found: Survey, on_event: OnEvent
) -> Iterator[Frame]:
    frames = islice(frames_from(facts, options.read, found, 0), found.num_frames)
    for done, frame in enumerate(frames, start=1):
        yield frame
        on_event(Event(stage="survey", done=done, total=found.num_frames))


def _fingerprint(
    request: TranslationRequest, model: ImageModel, computing: tuple[torch.device, torch.dtype]
) -> dict[str, Any]:
    """Return what a resumed run must agree with."""
    options, facts = request.options, request.facts
    values = (
        source_fingerprint(facts.path, facts.images)
        | {"device": computing[0].type, "dtype": str(computing[1])}
        | {"codec used": request.codec.codec, "model name": model.name}
        | {"model sha256": model.sha256}
        | options.to_json()
    )
    if options.hint is not None:
        hint = probe(options.hint.expanduser())
        found = source_fingerprint(hint.path, hint.images)
        values |= {f"hint {name}": value for name, value in found.items()}
    for what, folder in (
        ("model", None if model.sha256 else model.root),  # which no legato.json lists
        ("controlnet", options.controlnet),
        ("hint model", options.hint_model),
    ):
        values |= {} if folder is None else folder_fingerprint(what, folder)
    for what, file in (("lora", options.lora), ("raft", options.raft)):
        if file is not None:
            values[f"{what} sha256"] = hash_file(file.expanduser())
    return values
