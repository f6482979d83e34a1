"""What a model makes of the options of a generated video: every gap filled, or refused."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from legato.diffusion.context import BETWEEN
from legato.diffusion.guidance import needs_unconditional
from legato.diffusion.schedule import Schedule
from legato.diffusion.solver import is_first_order
from legato.errors import InputError
from legato.models.folder import ModelFolder
from legato.models.generator import GeneratorModel
from legato.models.load import require_job
from legato.models.manifest import InterpolationStart
from legato.models.spec import find_folder
from legato.pipelines.generate_options import MAX_FRAMES, GenerateOptions
from legato.pipelines.limits import require_leading, require_needed, within
from legato.pipelines.timeline import Timeline

LAYERED = ("context_guidance", "context_noise", "reconstruction_guidance", "motion_lora")
"""Options that act through the temporal layers of key frames alone."""
UNREAD_WITH_PICTURE = (
    *("start", "last_frame", "reconstruction_guidance", "boxes", "negative_prompt"),
    *("interpolations", "interpolation_steps", "context_guidance", "context_frames"),
    *("context_noise", "temporal_guidance", "temporal_share", "motion_guidance", "motion_share"),
    *("speed", "spatial", "motion_lora", "motion_lora_scale"),
)
"""Options that mean nothing to a model that makes a video of a picture."""
MOTION_BUCKET = 127
"""Of Stable Video Diffusion where nothing else is chosen."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options after the model's defaults."""

    timeline: Timeline
    frame_rate: Fraction
    start: Literal["image", "clip"]
    num_inference_steps: int
    interpolation_start: InterpolationStart
    interpolation_steps: int
    guidance_scale: float
    context_guidance: float
    temporal_guidance: float
    temporal_share: float
    motion_guidance: float
    motion_share: float
    speed: float
    motion_bucket: int | None
    """How much moves in a video of a picture; None: it is made of words."""
    anchoring: float
    context_frames: int
    context_noise: int
    window: int
    attention_window: int | None
    """Key frames further apart do not attend to each other; None: all do."""
    width: int
    height: int
    upsampler: str | None
    """Name or folder of the upscaling model that enlarges the video."""


def resolve(options: GenerateOptions, model: GeneratorModel, prompt: str) -> Settings:
    """Return the options with the model's defaults where nothing was chosen.

    Raises:
        ModelError: a stage model is missing, named in the message.
        InputError: a length or size that this model cannot make, or what would count for nothing.
    """
    _require_beginning(options, model)
    defaults = model.defaults
    window = defaults.window if options.window is None else options.window
    usual = 0 if model.interpolation is None else defaults.interpolations
    interpolations: int = usual if options.interpolations is None else options.interpolations
    if interpolations and model.interpolation is None:
        raise model.require("interpolation", why=f"interpolations={interpolations} need it")
    if options.boxes is not None and model.layout is None:
        raise model.require("layout", why="--boxes needs it")
    stride = BETWEEN**interpolations
    rate = Fraction(str(defaults.key_frame_rate)) * stride
    if options.fps is not None:
        rate = Fraction(str(options.fps))
    num_frames = options.frames
    if options.seconds is not None:
        num_frames = max(round(Fraction(str(options.seconds)) * rate), 1)
    if num_frames is None:
        num_frames = (window - 1) * stride + 1
    within("frames", num_frames, 1, MAX_FRAMES)
    timeline = Timeline(num_frames=num_frames, interpolations=interpolations)
    _require_continuing(options, model, timeline, window)
    _require_reachable(options, timeline, window)
    guidance_scale = _or(options.guidance_scale, defaults.guidance_scale)
    if options.negative_prompt and not needs_unconditional(guidance_scale):
        raise InputError(
            f"negative_prompt={options.negative_prompt!r}",
            why=f"it does not count at guidance_scale={guidance_scale:g}",
            fix="use a guidance scale above 1",
        )
    width, height = options.width or defaults.width, options.height or defaults.height
    steps = options.num_inference_steps or defaults.steps
    settings = Settings(
        timeline=timeline,
        frame_rate=rate.limit_denominator(10_000),
        start=_start(options, model),
        num_inference_steps=steps,
        interpolation_start=defaults.interpolation_start,
        interpolation_steps=_interpolation_steps(options, model, steps),
        guidance_scale=guidance_scale,
        context_guidance=_or(options.context_guidance, defaults.context_guidance),
        temporal_guidance=_or(options.temporal_guidance, defaults.temporal_guidance),
        temporal_share=_or(options.temporal_share, defaults.temporal_share),
        motion_guidance=_motion_guidance(options, model),
        motion_share=_or(options.motion_share, defaults.motion_share),
        speed=_or(options.speed, defaults.speed if options.last_frame is None else 0.0),
        motion_bucket=_motion_bucket(options, model),
        anchoring=_or(options.anchoring, defaults.anchoring),
        context_frames=options.context_frames if model.picture is None else 1,
        context_noise=options.context_noise,
        window=window,
        attention_window=defaults.window - 1 if window > defaults.window else None,
        width=width,
        height=height,
        upsampler=_upsampler(options, model),
    )
    _require_acted_on(prompt, options, settings, model)
    return settings


def untold(options: GenerateOptions, settings: Settings, model: GeneratorModel) -> list[str]:
    """Return sentences about options of which the model's layers are not told."""
    said, stride = [], BETWEEN**settings.timeline.interpolations
    pace = float(settings.frame_rate / stride) / model.defaults.key_frame_rate
    is_told = model.picture is not None or _sees(model, "sees_frame_rate")
    if options.fps is not None and not is_told and pace != 1:
        said.append(
            f"model {model.name!r} knows no frame rates: "
            f"at {options.fps:g} frames per second its motion plays {pace:.3g} times as fast"
        )
    if options.context_noise and not _sees(model, "sees_noise_level"):
        said.append(
            f"model {model.name!r} is not told of the noise on given frames "
            f"(context_noise={options.context_noise}): it takes it for part of the picture"
        )
    return said


def num_known(settings: Settings, *, is_end_given: bool) -> int:
    """Return how many key frames no call makes: an image to start from, and what it is to become.

    Args:
        settings: of the video.
        is_end_given: whether the user gave its last frame.
    """
    if settings.start != "image":
        return 0
    return 2 if is_end_given and settings.timeline.num_key_frames == 2 else 1


def _motion_guidance(options: GenerateOptions, model: GeneratorModel) -> float:
    """Return how strongly motion leads key frames.

    Raises:
        InputError: a share of the steps or a speed is chosen, and nothing would be led.
    """
    weight = _or(options.motion_guidance, model.defaults.motion_guidance)
    for name in ("motion_share", "speed"):
        value = getattr(options, name)
        if value is not None and not weight:
            raise InputError(
                f"{name}={value:g}",
                why=f"model {model.name!r} is not led by motion",
                fix="give --motion-guidance too, or leave it out",
            )
    return weight


def _require_beginning(options: GenerateOptions, model: GeneratorModel) -> None:
    """Refuse what says nothing to a model that makes a video of a picture, or to all others.

    Raises:
        InputError: names the first such option, or says that the picture is missing.
    """
    if model.picture is None:
        if options.motion_bucket is not None:
            raise InputError(
                f"motion_bucket={options.motion_bucket} with model {model.name!r}",
                why="it makes a video of words and is told no such number",
                fix="leave it out",
            )
        return
    for name in UNREAD_WITH_PICTURE:
        value = getattr(options, name)
        if value != getattr(GenerateOptions, name):
            raise InputError(
                f"{name}={value} with model {model.name!r}",
                why="it makes a video of a picture, and nothing in it reads this",
                fix="leave it out",
            )
    if options.first_frame is None:
        raise InputError(
            f"model {model.name!r}",
            why="it makes a video of a picture, and there is none",
            fix="name one with --first-frame",
        )


def _motion_bucket(options: GenerateOptions, model: GeneratorModel) -> int | None:
    if model.picture is None:
        return None
    return MOTION_BUCKET if options.motion_bucket is None else options.motion_bucket


def _interpolation_steps(options: GenerateOptions, model: GeneratorModel, usual: int) -> int:
    """Return the steps of the frames between.

    Raises:
        InputError: more steps are asked for than correct a blend.
    """
    asked, defaults = options.interpolation_steps, model.defaults
    if defaults.interpolation_start == "noise":
        return asked or defaults.interpolation_steps or usual
    if asked not in (None, 1):
        raise InputError(
            f"interpolation_steps={asked} with model {model.name!r}",
            why="it corrects the blend of two key frames in one step",
            fix="leave it out",
        )
    return 1


def _upsampler(options: GenerateOptions, model: GeneratorModel) -> str | None:
    """Return what enlarges the video; a wrong name is refused before all work.

    Raises:
        ModelError: there is no such model, or it is made for something else.
    """
    chosen = options.upsampler
    if chosen == "auto":
        chosen = "none" if model.upsampler is None else str(model.upsampler)
    if chosen == "none":
        return None
    manifest = ModelFolder(find_folder(chosen), headers_only=True).manifest
    if manifest is not None:
        require_job(manifest, "upscale")
    return chosen


def _start(options: GenerateOptions, model: GeneratorModel) -> Literal["image", "clip"]:
    if options.start == "auto":
        return "image" if model.predicts else "clip"
    return options.start


def _require_continuing(
    options: GenerateOptions, model: GeneratorModel, timeline: Timeline, window: int
) -> None:
    """Refuse what needs key frames that follow given ones, where the model cannot make them."""
    if model.predicts or model.picture is not None:
        return
    longest = (window - 1) * timeline.stride + 1
    reasons = {
        "--first-frame": options.first_frame is not None,
        "start='image'": options.start == "image",
        "--boxes": options.boxes is not None,
        "--context-guidance": options.context_guidance is not None,
        "--context-noise": options.context_noise > 0,
        f"more than {longest} frames": timeline.num_key_frames > window,
    }
    for name, is_asked in reasons.items():
        if is_asked:
            raise InputError(
                f"{name} with model {model.name!r}",
                why="its temporal layers take no given frames, so it makes one clip at a time",
                fix=f"ask for at most {longest} frames, or use a model that predicts",
            )


def _require_acted_on(
    prompt: str, options: GenerateOptions, settings: Settings, model: GeneratorModel
) -> None:
    """Refuse what acts on nothing in this video: on given frames, clips, noise or frames between.

    Raises:
        InputError: names the first such option.
    """
    timeline = settings.timeline
    key_frames = timeline.num_key_frames
    known = num_known(settings, is_end_given=options.last_frame is not None)
    calls, continues = key_frames > known, key_frames > settings.window
    follows = continues or (calls and known > 0)
    follows_two = continues and settings.context_frames > 1
    follows_one = calls and (known == 1 or (continues and not follows_two))
    leads = follows_two or (follows_one and settings.speed != 0)
    denoises = calls or (settings.start == "image" and options.first_frame is None)
    fills = key_frames > 1 and timeline.interpolations > 0
    draws = denoises or (fills and settings.interpolation_start == "noise")
    has_own_steps = bool(options.interpolation_steps or model.defaults.interpolation_steps)
    counts_steps = draws and not has_own_steps
    schedule = Schedule.from_config(model.schedule)
    counts = [settings.num_inference_steps] * denoises + [settings.interpolation_steps] * fills
    paths = [schedule.path(schedule.timesteps(count)) for count in counts]
    acts = calls and settings.temporal_guidance != 0 and settings.temporal_share > 0
    splits = acts or settings.motion_guidance != 0 or settings.anchoring != 0
    sees_context = settings.context_guidance != 0 or _sees(model, "sees_noise_level")
    draws_on_spatial = fills and not model.interpolation_is_own
    layers = "--temporal-guidance and --temporal-share above 0"
    needs = (
        ("guidance_scale", "key frames to make", denoises),
        ("negative_prompt", "key frames to make", denoises),
        ("num_inference_steps", "frames made in so many steps", denoises or counts_steps),
        ("solver", "frames made from noise", draws),
        ("solver", "more steps", not all(is_first_order(GenerateOptions.solver, p) for p in paths)),
        ("seed", "frames made from noise", draws or settings.upsampler is not None),
        ("context_guidance", "key frames that follow given ones", follows),
        ("context_noise", "key frames that follow given ones", follows),
        ("context_frames", "a second clip of key frames", continues),
        ("motion_guidance", "key frames that follow two, or one and a --speed", leads),
        ("motion_share", "key frames that follow two, or one and a --speed", leads),
        ("speed", "key frames that follow a single one", follows_one),
        ("anchoring", "a second clip of key frames", continues),
        ("temporal_guidance", "a clip of key frames to make", calls),
        ("temporal_share", "a clip of key frames to make", calls),
        ("reconstruction_guidance", "a clip of key frames to make", calls),
        ("motion_lora", "a clip of key frames to make", calls),
        ("window", "a clip of key frames to make", calls),
        ("interpolation_steps", "frames between key frames", fills),
        ("spatial", "frames that its image model makes", denoises or draws_on_spatial),
        *((name, layers, acts) for name in LAYERED),
        ("context_frames", f"{layers}, or motion guidance or anchoring", splits),
        ("temporal_share", "--temporal-guidance above 0", settings.temporal_guidance != 0),
        ("context_noise", "--context-guidance above 0", sees_context),
    )
    require_needed(options, needs)
    if prompt and not (denoises or fills):
        raise InputError(
            f"prompt {prompt!r}",
            why="all frames of this video are given",
            fix="ask for more frames, or leave it out",
        )
    if model.picture is None:
        require_leading(options.guidance_scale, [prompt], options.negative_prompt)


def _sees(model: GeneratorModel, fact: str) -> bool:
    """Tell whether temporal layers of key frames are told of a fact; not every family can."""
    return getattr(model.unet.options, fact, False)


def _require_reachable(options: GenerateOptions, timeline: Timeline, window: int) -> None:
    """Refuse a last frame that is no key frame of the first clip, or the first one."""
    if options.last_frame is None:
        return
    stride, last = timeline.stride, timeline.num_key_frames - 1
    if timeline.num_frames != timeline.num_latents or not 1 <= last < window:
        nearest = stride * min(max(last, 1), window - 1) + 1
        raise InputError(
            f"--last-frame with {timeline.num_frames} frames",
            why=f"it must be a key frame, one of {stride} frames, of the first {window}",
            fix=f"ask for {nearest} frames",
        )


def _or(chosen: float | None, default: float) -> float:
    return default if chosen is None else chosen
