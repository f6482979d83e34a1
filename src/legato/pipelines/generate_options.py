"""What changes a generated video, and what a model makes of it."""

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from legato.diffusion.context import BETWEEN
from legato.diffusion.guidance import needs_unconditional
from legato.diffusion.solver import SolverName
from legato.errors import InputError
from legato.models.generator import GeneratorModel
from legato.pipelines.timeline import Timeline
from legato.video.codecs import CodecOptions

MAX_FRAMES = 1_000_000
MAX_RATE = 240
DEFAULT_AIMING = 4.0
FILES = ("first_frame", "last_frame", "boxes", "motion_lora")
"""Options that name one."""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Everything that changes a generated video. Frozen, so it can be logged and replayed."""

    frames: int | None = None
    """Frames of the video, any number. Default: as many as one clip of key frames reaches."""

    seconds: float | None = None
    """Length of the video, instead of a number of frames."""

    fps: float | None = None
    """Frames per second: of the file, and as models that know rates are told. Default: the
    model's own."""

    first_frame: Path | None = None
    """Image that the video begins with, fitted to its size. Default: the image model makes one."""

    last_frame: Path | None = None
    """Image that the video ends with, fitted to its size: with a first frame a transition between
    the two. The video is then no longer than one clip of key frames reaches."""

    reconstruction_guidance: float = DEFAULT_AIMING
    """How strongly key frames are led to the last frame, which no layer has learned to see; twice
    as slow. Not used where the frames between two key frames are the whole video."""

    boxes: Path | None = None
    """Where cars are in the first frame, for a model that can be told: a text file with a line
    `left top right bottom` per car, in shares of the picture, and `back` for one seen from
    behind."""

    start: Literal["auto", "image", "clip"] = "auto"
    """Begin with one image and continue it, or with a whole clip of key frames at once. auto: the
    image, where the model can continue."""

    negative_prompt: str = ""
    """What the video must not look like; counts only with a guidance scale above 1."""

    num_inference_steps: int | None = None
    """Denoising steps of every clip. Default: the model's own."""

    solver: SolverName = "ddim"
    """How steps follow each other: ddim, or dpm++ and unipc, which need fewer steps."""

    guidance_scale: float | None = None
    """How strongly the prompt is followed; 1 is faster and without guidance. Default: the
    model's own."""

    context_guidance: float | None = None
    """How strongly key frames follow the ones before; 1 is without guidance. Default: the
    model's own."""

    context_frames: Literal[1, 2] = 2
    """Last key frames that the next ones are told of: two also tell the direction of motion."""

    context_noise: int = 0
    """Noise on them, as a training timestep: hides their flaws from what follows."""

    window: int | None = None
    """Key frames denoised together; with more than the model's own, those further apart than it
    has seen do not attend to each other."""

    interpolations: Literal[0, 1, 2] | None = None
    """Passes that put three frames between two. Default: the model's own."""

    width: int | None = None
    """Columns of a frame. Default: the model's own."""

    height: int | None = None
    """Rows of a frame. Default: the model's own."""

    upsample: Literal["auto", "yes", "no"] = "auto"
    """Enlarge the video by the model's own upsampler. auto: where it has one."""

    seed: int = 0
    """Seed of all noise. Each frame's noise depends on this and on its number only."""

    output: CodecOptions = field(default_factory=CodecOptions)

    segment: int = 32
    """Frames that are decoded and saved together; memory grows with it."""

    model: str = "driving"
    """Name of an installed model that generates, or the path of a model folder."""

    motion_lora: Path | None = None
    """Low-rank weights for the attentions over time of key frames: a file of `legato train
    motion`."""

    motion_lora_scale: float = 1.0
    """How strongly they act; 1 is as trained."""

    spatial: str | None = None
    """Folder of another image model of the same topology, such as a fine-tuned one: the model's
    temporal layers act on it, and prompts are embedded as it was trained. Default: the model's
    own."""

    def __post_init__(self) -> None:
        if self.frames is not None and self.seconds is not None:
            raise InputError(
                f"frames={self.frames} and seconds={self.seconds:g}",
                why="each of them alone fixes the length",
                fix="give one of them",
            )
        _within("frames", self.frames, 1, MAX_FRAMES)
        _within("seconds", self.seconds, 1e-3, MAX_FRAMES)
        _within("fps", self.fps, 0.01, MAX_RATE)
        _within("num_inference_steps", self.num_inference_steps, 1, 1000)
        _within("guidance_scale", self.guidance_scale, 0.0, 100.0)
        _within("context_guidance", self.context_guidance, 0.0, 100.0)
        _within("reconstruction_guidance", self.reconstruction_guidance, 0.0, 1000.0)
        _within("motion_lora_scale", self.motion_lora_scale, -10.0, 10.0)
        _within("context_noise", self.context_noise, 0, 999)
        _within("window", self.window, 3, 1024)
        _within("segment", self.segment, 1, 4096)
        _within("seed", self.seed, 0, 2**63 - 1)
        if self.first_frame is not None and self.start == "clip":
            raise InputError(
                "start='clip' with a first frame",
                why="a whole clip at once does not continue an image",
                fix="leave one of them out",
            )
        if self.boxes is not None and (self.first_frame is not None or self.start == "clip"):
            raise InputError(
                f"--boxes with {'a first frame' if self.first_frame else '--start clip'}",
                why="boxes tell the image model where to draw cars in the first frame",
                fix="leave one of them out",
            )

    def to_json(self) -> dict[str, Any]:
        """Return a flat dictionary, one entry per flag."""
        values: dict[str, Any] = asdict(self)
        values |= values.pop("output")
        files = {name: values[name] for name in FILES}
        return values | {name: None if path is None else str(path) for name, path in files.items()}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options after the model's defaults."""

    timeline: Timeline
    frame_rate: Fraction
    start: Literal["image", "clip"]
    num_inference_steps: int
    guidance_scale: float
    context_guidance: float
    context_frames: int
    context_noise: int
    window: int
    attention_window: int | None
    """Key frames further apart do not attend to each other; None: all do."""
    width: int
    height: int
    upsample: bool


def resolve(options: GenerateOptions, model: GeneratorModel) -> Settings:
    """Return the options with the model's defaults where nothing was chosen.

    Raises:
        ModelError: a stage model is missing, named in the message.
        InputError: a length or size that this model cannot make.
    """
    defaults = model.defaults
    window = defaults.window if options.window is None else options.window
    usual = 0 if model.interpolation is None else defaults.interpolations
    interpolations: int = usual if options.interpolations is None else options.interpolations
    if interpolations and model.interpolation is None:
        raise model.require("interpolation", why=f"interpolations={interpolations} need it")
    if options.boxes is not None and model.layout is None:
        raise model.require("layout", why="--boxes needs it")
    if options.upsample == "yes" and model.upsampler is None:
        raise model.require("upsampler", why="upsample='yes' needs it")
    stride = BETWEEN**interpolations
    rate = Fraction(str(defaults.key_frame_rate)) * stride
    if options.fps is not None:
        rate = Fraction(str(options.fps))
    num_frames = options.frames
    if options.seconds is not None:
        num_frames = max(round(Fraction(str(options.seconds)) * rate), 1)
    if num_frames is None:
        num_frames = (window - 1) * stride + 1
    _within("frames", num_frames, 1, MAX_FRAMES)
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
    for name, side in (("width", width), ("height", height)):
        _require_multiple(name, side, model)
    return Settings(
        timeline=timeline,
        frame_rate=rate.limit_denominator(10_000),
        start=_start(options, model),
        num_inference_steps=options.num_inference_steps or defaults.steps,
        guidance_scale=guidance_scale,
        context_guidance=_or(options.context_guidance, defaults.context_guidance),
        context_frames=options.context_frames,
        context_noise=options.context_noise,
        window=window,
        attention_window=defaults.window - 1 if window > defaults.window else None,
        width=width,
        height=height,
        upsample=options.upsample != "no" and model.upsampler is not None,
    )


def _start(options: GenerateOptions, model: GeneratorModel) -> Literal["image", "clip"]:
    if options.start == "auto":
        return "image" if model.predicts else "clip"
    return options.start


def _require_continuing(
    options: GenerateOptions, model: GeneratorModel, timeline: Timeline, window: int
) -> None:
    """Refuse what needs key frames that follow given ones, where the model cannot make them."""
    if model.predicts:
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


def _require_multiple(name: str, side: int, model: GeneratorModel) -> None:
    shape: Any = model.unet.spatial.config
    multiple = model.scale * 2 ** (len(shape.block_out_channels) - 1)
    if side < multiple or side % multiple:
        raise InputError(
            f"{name}={side}",
            why=f"this model makes multiples of {multiple} pixels",
            fix=f"use {max(round(side / multiple), 1) * multiple}",
        )


def _or(chosen: float | None, default: float) -> float:
    return default if chosen is None else chosen


def _within(name: str, value: float | int | None, low: float | int, high: float | int) -> None:
    if value is not None and not low <= value <= high:
        raise InputError(
            f"{name}={value:g}", why="out of range", fix=f"use a number from {low} to {high}"
        )
