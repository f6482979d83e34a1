"""What changes a translated video."""

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from legato.errors import InputError
from legato.pipelines.consistency import READERS, TRANSLATING, holds
from legato.pipelines.keyframes import SMALLEST_BATCH, KeyframeOptions
from legato.pipelines.limits import require_needed, within
from legato.pipelines.time_range import TimeRange
from legato.pipelines.timecode import parse_time
from legato.video.codecs import CodecOptions
from legato.video.read import ReadOptions

PARTS = ("read", "keyframes", "output")
MAX_BATCH, MAX_RESOLUTION, MAX_SEGMENT = 64, 4096, 4096


@dataclass(frozen=True, kw_only=True)
class TranslateOptions(TimeRange):
    """Everything that changes the result of `translate`.

    Raises:
        InputError: a value is out of range, or two contradict each other.
    """

    model: str | None = None
    """Image model: a folder of Stable Diffusion 1.x, 2.x or XL in diffusers' layout, or one with a
    closed vocabulary."""

    prompt: str = ""
    """What the video shall look like; a comma list of words where the model knows a closed
    vocabulary."""

    prompt_at: tuple[str, ...] = ()
    """Other prompts from a time after the first frame on, each as TIME=PROMPT, rising."""

    negative_prompt: str = ""
    """What it must not look like; counts only with a guidance scale above 1."""

    strength: float = 0.75
    """How much of the input may change: the share of the steps that is executed, above 0 to 1."""

    start_from: Literal["noise", "inversion"] = "noise"
    """Begin with the input under fresh noise, or under the noise that leads back to it (DDIM
    inversion), which keeps more of it."""

    solver: Literal["ddpm", "ddim", "dpm++", "unipc"] = "ddpm"
    """How steps follow each other: ddpm draws noise at every step; ddim does not; dpm++ and unipc
    need fewer steps."""

    num_inference_steps: int = 20
    """Denoising steps of the whole schedule."""

    guidance_scale: float | None = None
    """How strongly the prompt is followed; 1 is faster and without guidance. Default: the model's
    own."""

    seed: int = 0
    """Seed of all noise."""

    consistency: str = "fresco"
    """What holds key frames together, as a comma list: fresco or any of its parts (spatial-guided,
    cross-frame, temporal-guided, features, background, shared-noise), one attention of another
    system (first-frame, first-and-previous, trajectories, nearest-tokens, all-frames), changes of
    the estimate by others (interleaved, shape-aware, pixel-aware, color-aware); or none."""

    raft: Path | None = None
    """RAFT's weights, safetensors, for all of this and the frames between along its flow instead of
    OpenCV's DIS; needs torchvision, time and memory."""

    preset: Literal["released", "paper"] = "released"
    """Values of fresco's features: those of the released code, or those of the paper."""

    batch_size: int = 8
    """Key frames that are computed together; memory and consistency grow with it."""

    keyframes: KeyframeOptions = field(default_factory=KeyframeOptions)

    resolution: int | None = None
    """Rows or columns, whichever are fewer, of the pictures that the model works on. Default: as it
    was trained."""

    colorize: bool = False
    """Take only the colours of the translation, and the lightness of the input."""

    controlnet: Path | None = None
    """ControlNet of diffusers, a folder: keeps the structure that hints show. Unless others are
    named, hints are the input's outlines (Canny)."""

    control_scale: float = 1.0
    """How strongly."""

    hint_model: str | None = None
    """Depth-estimation model of transformers, a folder or a name at the hub: hints are the input's
    depth."""

    hint: Path | None = None
    """Hints made elsewhere, such as soft edges, line art or poses: a video or a folder of images
    with a frame for each one that is translated. They are used as they are."""

    lora: Path | None = None
    """LoRA weights for the model's U-Net, and its text encoder where they hold some: a safetensors
    file."""

    lora_scale: float = 1.0
    """How strongly."""

    freeu: bool = False
    """Weigh the decoder's own features against those it is handed (FreeU): more detail."""

    read: ReadOptions = field(default_factory=ReadOptions)

    output: CodecOptions = field(default_factory=CodecOptions)

    segment: int = 32
    """Frames that are saved together at least."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("strength", self.strength, 1e-3, 1.0)
        within("num_inference_steps", self.num_inference_steps, 1, 1000)
        within("guidance_scale", self.guidance_scale, 0.0, 100.0)
        within("control_scale", self.control_scale, 0.0, 10.0)
        within("lora_scale", self.lora_scale, -10.0, 10.0)
        within("batch_size", self.batch_size, SMALLEST_BATCH, MAX_BATCH)
        within("resolution", self.resolution, 8, MAX_RESOLUTION)
        within("segment", self.segment, 1, MAX_SEGMENT)
        within("seed", self.seed, 0, 2**63 - 1)
        scale = self.guidance_scale
        if self.negative_prompt and scale is not None and scale <= 1:
            raise InputError(
                f"negative_prompt={self.negative_prompt!r}",
                why=f"it does not count at guidance_scale={scale:g}",
                fix="use a guidance scale above 1",
            )
        if self.start_from == "inversion" and self.solver == "ddpm":
            raise InputError(
                "start_from='inversion' with solver='ddpm'",
                why="ddpm draws new noise at every step, which forgets the inversion",
                fix="use solver ddim",
            )
        noise = f"--start-from noise, or {', '.join(READERS)} in --consistency"
        needs = (
            ("preset", "features in --consistency", "features" in self.chosen),
            ("control_scale", "--controlnet", self.controlnet is not None),
            ("hint_model", "--controlnet", self.controlnet is not None),
            ("hint", "--controlnet", self.controlnet is not None),
            ("lora_scale", "--lora", self.lora is not None),
            ("seed", noise, self.draws_noise),
        )
        require_needed(self, needs)
        if not self.draws_noise and "shared-noise" in self.chosen:
            raise InputError(
                f"consistency={self.consistency!r}",
                why=f"shared-noise counts only with {noise}",
                fix="leave it out",
            )
        if self.hint is not None and self.hint_model is not None:
            raise InputError(
                f"hint={str(self.hint)!r} with hint_model={self.hint_model!r}",
                why="a ControlNet is shown one hint of a frame",
                fix="give one of them",
            )
        self.prompts()

    @property
    def chosen(self) -> frozenset[str]:
        """What holds key frames together, `fresco` as its parts.

        Raises:
            InputError: a name is unknown here or does not go with another.
        """
        return holds(self.consistency, known=TRANSLATING)

    @property
    def draws_noise(self) -> bool:
        """Whether any noise is drawn: an inversion finds its own, which only `READERS` add to."""
        return self.start_from == "noise" or not self.chosen.isdisjoint(READERS)

    def prompts(self) -> list[tuple[Fraction, str]]:
        """Return the prompts, each with the seconds after the first frame from which it holds.

        Raises:
            InputError: an entry of `prompt_at` cannot be read, or its times do not rise.
        """
        found = [(Fraction(0), self.prompt)]
        for entry in self.prompt_at:
            time, equals, text = entry.partition("=")
            if not equals:
                raise InputError(
                    f"prompt_at={entry!r}",
                    why="it holds no '='",
                    fix='use TIME=PROMPT, as "3=rain"',
                )
            seconds = parse_time(time)
            if seconds <= found[-1][0]:
                raise InputError(
                    f"prompt_at={entry!r}",
                    why="it does not come after the prompt before",
                    fix="give rising times above 0",
                )
            found.append((seconds, text))
        return found

    def to_json(self) -> dict[str, Any]:
        """Return a flat dictionary, one entry per flag."""
        values: dict[str, Any] = asdict(self)
        for part in PARTS:
            values |= values.pop(part)
        for name in ("raft", "controlnet", "hint", "lora"):
            values[name] = None if values[name] is None else str(values[name])
        return values | {"prompt_at": list(self.prompt_at)}
