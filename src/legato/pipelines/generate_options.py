"""What changes a generated video; nothing heavy is imported, so that `--help` answers at once."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from legato.errors import InputError
from legato.options import require_types
from legato.pipelines.limits import require_needed, within
from legato.video.codecs import CodecOptions

MAX_FRAMES = 1_000_000
MAX_RATE = 240
MAX_SIDE = 1 << 16
DEFAULT_AIMING = 4.0
FILES = ("first_frame", "last_frame", "boxes", "motion_lora")
"""Options that name one."""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Everything that changes a generated video."""

    frames: int | None = None
    """Frames of the video, any number. Default: as many as one clip of key frames reaches."""

    seconds: float | None = None
    """Length of the video, instead of a number of frames."""

    fps: float | None = None
    """Frames per second of the file. Layers that see the frame rate are told, and things move as
    far as they do in that time; driving knows no rates: the same frames then pass faster or slower,
    which a notice says. Default: the model's own."""

    first_frame: Path | None = None
    """Image that the video begins with, fitted to its size, or that all of it is made of by a model
    of Stable Video Diffusion's kind. Default: the image model makes one."""

    last_frame: Path | None = None
    """Image that the video ends with, fitted to its size: with a first frame a transition between
    the two. The video is then no longer than one clip of key frames reaches."""

    reconstruction_guidance: float = DEFAULT_AIMING
    """How strongly key frames are led to the last frame, which no layer has learned to see; twice
    as slow. Refused where the frames between two key frames are the whole video."""

    motion_bucket: int | None = None
    """How much moves, from 0 to 255, as Stable Video Diffusion counts: for a model that makes a
    video of its first frame. Default: 127."""

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

    interpolation_steps: int | None = None
    """Those of frames between key frames; one for a model that corrects their blend, such as
    driving. Default: the model's own, or as many as key frames."""

    solver: Literal["ddim", "dpm++", "unipc"] = "unipc"
    """How steps follow each other: ddim, or dpm++ and unipc, which need fewer steps."""

    guidance_scale: float | None = None
    """How strongly the prompt is followed; 1 is faster and without guidance. Default: the
    model's own."""

    context_guidance: float | None = None
    """How strongly key frames follow the ones before; 1 is without guidance. Default: the
    model's own."""

    temporal_guidance: float | None = None
    """How strongly temporal layers hold key frames together; 1 is as they were trained, and faster.
    Default: the model's own."""

    temporal_share: float | None = None
    """Share of the steps, from the first on, in which they do; the image model finishes every frame
    by itself, with detail that they have not learned. Default: the model's own."""

    motion_guidance: float | None = None
    """How strongly key frames are led to where the last two before them were going: from 0, not at
    all, to 1. Default: the model's own."""

    motion_share: float | None = None
    """Share of the steps, from the first on, in which they are. Default: the model's own."""

    speed: float | None = None
    """Metres per second at which a car's camera is led to drive on where key frames follow a single
    one, which shows no motion; negative: backwards, 0: as the layers will. Default: the model's
    own, or 0 with a last frame."""

    anchoring: float | None = None
    """How strongly colours and contrast of key frames are held to those of the first clip: from 0,
    not at all, to 1. Default: the model's own."""

    context_frames: Literal[1, 2] = 2
    """Last key frames that the next ones are told of: two also tell the direction of motion."""

    context_noise: int = 0
    """Noise on them, as a training timestep: hides their flaws from what follows. Layers that see
    the noise level are told; those of driving take the noise for part of the picture, which a
    notice says."""

    window: int | None = None
    """Key frames denoised together; with more than the model's own, those further apart than it
    has seen do not attend to each other."""

    interpolations: Literal[0, 1, 2] | None = None
    """Passes that put three frames between two. Default: the model's own."""

    width: int | None = None
    """Columns of a frame. Default: the model's own."""

    height: int | None = None
    """Rows of a frame. Default: the model's own."""

    upsampler: str = "auto"
    """Upscaling model that enlarges the video, its name or folder, such as embedded-x4; or none.
    auto: the model's own, where it has one."""

    seed: int = 0
    """Seed of all noise. Each frame's noise depends on this and on its number only."""

    output: CodecOptions = field(default_factory=CodecOptions)

    segment: int = 32
    """Frames that are decoded and saved together; memory grows with it."""

    model: str = "driving"
    """Name of an installed model that generates, or the path of a model folder."""

    spatial: str | None = None
    """Folder of another image model of the same topology, such as a fine-tuned one: the model's
    temporal layers act on it, and prompts are embedded as it was trained. Default: the model's
    own."""

    motion_lora: Path | None = None
    """Low-rank weights for the attentions over time of key frames: a file of `legato train
    motion`."""

    motion_lora_scale: float = 1.0
    """How strongly they act; 1 is as trained."""

    def __post_init__(self) -> None:
        require_types(self)
        if self.frames is not None and self.seconds is not None:
            raise InputError(
                f"frames={self.frames} and seconds={self.seconds:g}",
                why="each of them alone fixes the length",
                fix="give one of them",
            )
        within("frames", self.frames, 1, MAX_FRAMES)
        within("seconds", self.seconds, 1e-3, MAX_FRAMES)
        within("fps", self.fps, 0.01, MAX_RATE)
        within("num_inference_steps", self.num_inference_steps, 1, 1000)
        within("interpolation_steps", self.interpolation_steps, 1, 1000)
        within("guidance_scale", self.guidance_scale, 0.0, 100.0)
        within("context_guidance", self.context_guidance, 0.0, 100.0)
        within("temporal_guidance", self.temporal_guidance, 0.0, 100.0)
        within("temporal_share", self.temporal_share, 0.0, 1.0)
        within("motion_guidance", self.motion_guidance, 0.0, 1.0)
        within("motion_share", self.motion_share, 0.0, 1.0)
        within("motion_bucket", self.motion_bucket, 0, 255)
        within("speed", self.speed, -100.0, 100.0)
        within("anchoring", self.anchoring, 0.0, 1.0)
        within("reconstruction_guidance", self.reconstruction_guidance, 0.0, 1000.0)
        within("motion_lora_scale", self.motion_lora_scale, -10.0, 10.0)
        within("context_noise", self.context_noise, 0, 999)
        within("window", self.window, 3, 1024)
        within("width", self.width, 1, MAX_SIDE)
        within("height", self.height, 1, MAX_SIDE)
        within("segment", self.segment, 1, 4096)
        within("seed", self.seed, 0, 2**63 - 1)
        needs = (
            ("reconstruction_guidance", "--last-frame", self.last_frame is not None),
            ("motion_lora_scale", "--motion-lora", self.motion_lora is not None),
            ("interpolation_steps", "--interpolations above 0", self.interpolations != 0),
            ("temporal_guidance", "--temporal-share above 0", self.temporal_share != 0),
            ("motion_guidance", "--motion-share above 0", self.motion_share != 0),
            ("speed", "--motion-share above 0", self.motion_share != 0),
            ("speed", "--motion-guidance above 0", self.motion_guidance != 0),
            ("speed", "no --last-frame, which leads already", self.last_frame is None),
        )
        require_needed(self, needs)
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

    @property
    def files(self) -> dict[str, Path]:
        """Files that are read, by the names of their options."""
        found = {name: getattr(self, name) for name in FILES}
        return {name: path for name, path in found.items() if path is not None}

    def to_json(self) -> dict[str, Any]:
        """Return a flat dictionary, one entry per flag."""
        values: dict[str, Any] = asdict(self)
        values |= values.pop("output")
        return values | {name: str(path) for name, path in self.files.items()}
