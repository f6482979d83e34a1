"""What `legato.json` says of a model folder: job, family, and what it was made for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from legato.errors import ModelError

MANIFEST = "legato.json"
FORMAT_VERSION = 1
REFILL = "fetch the model again, or point to an undamaged copy"
SHARES = ("first_estimate_share", "trust", "temporal_share", "motion_share")
"""Defaults between 0 and 1."""
InterpolationStart = Literal["noise", "blend"]
LAYERS = "layers"
"""The job of a folder that no command works with as it is: its temporal layers are for others."""


@dataclass(frozen=True, kw_only=True)
class UpscalerDefaults:
    """Settings that an upscaling model was made for."""

    steps: int = 30
    """Denoising steps."""
    noise_level: int = 20
    """Noise on the low-resolution clip."""
    max_noise_level: int = 350
    """The strongest noise it has learned."""
    guidance_scale: float = 1.0
    """1: without guidance."""
    window: int = 8
    """Frames denoised together."""
    overlap: int = 2
    """Frames shared by neighbouring windows."""
    tile: int = 0
    """Side of the largest tile in low-resolution pixels; attention costs grow with its square, and
    a model has seen no larger picture. 0: whole frames."""
    decoder_context: int = 0
    """Frames on either side that reach a decoded frame."""
    consistency: str = "temporal,propagation"
    """What holds the frames together: a comma list, or none."""
    propagate: str = "middle"
    """At which steps estimates are carried along the optical flow."""
    first_estimate_share: float = 0.0
    """Of the first step's clean estimate in the result of several steps."""
    trust: float = 0.0
    """Largest part of the input that comes back in frames that the model barely changed."""


@dataclass(frozen=True, kw_only=True)
class ImageDefaults:
    """Settings that a model of images was made for."""

    translation_guidance: float = 7.5
    """How strongly the prompt is followed while a video is translated; 1: without guidance."""
    window: int = 1
    """Frames denoised together: an image model knows one."""


@dataclass(frozen=True, kw_only=True)
class GeneratorDefaults(ImageDefaults):
    """Settings that a generating model, which holds one of images, was made for."""

    steps: int = 50
    """Denoising steps."""
    interpolation_steps: int = 0
    """Those of frames between key frames, of which little is open; 0: as many."""
    interpolation_start: InterpolationStart = "noise"
    """What these begin from: noise, or the blend of the two key frames, corrected in one step."""
    guidance_scale: float = 1.0
    """How strongly the prompt is followed; 1: without guidance."""
    context_guidance: float = 1.0
    """How strongly given frames are followed; 1: without guidance."""
    temporal_guidance: float = 1.0
    """How strongly temporal layers of key frames act; 1: as trained."""
    temporal_share: float = 1.0
    """In which share of the steps, from the first on."""
    motion_guidance: float = 0.0
    """How strongly key frames are led to where the last two were going; 0: they are not."""
    motion_share: float = 0.5
    """In which share of the steps, from the first on."""
    speed: float = 0.0
    """Metres per second at which a camera is led to drive on from a single frame, which shows no
    motion; 0: it is not."""
    anchoring: float = 0.0
    """How strongly colours and contrast of key frames are held to those of the first clip; 0: they
    are not."""
    window: int = 8
    """Key frames denoised together."""
    key_frame_rate: float = 1.875
    """Key frames per second."""
    interpolations: int = 2
    """Passes that put three frames between two, where there are layers for it."""
    width: int = 512
    """Columns of a frame."""
    height: int = 320
    """Rows of a frame."""
    noise_prior: str = "independent"
    """How the noise of neighbouring frames hangs together: independent, mixed or progressive."""
    noise_strength: float = 1.0
    """How much, for the last two."""
    decoder_window: int = 8
    """Frames decoded together."""
    decoder_context: int = 2
    """Frames on either side that are decoded with them and dropped."""
    decoder_fusion: int = 0
    """Passes in which decoded frames, where some were put between key frames, are fused with their
    neighbours along the flow, but for their detail."""

    def __post_init__(self) -> None:
        if self.interpolation_start not in get_args(InterpolationStart):
            raise ModelError(
                f"{MANIFEST} has interpolation_start={self.interpolation_start!r}",
                why=f"known are {', '.join(get_args(InterpolationStart))}",
                fix=REFILL,
            )


Defaults = UpscalerDefaults | ImageDefaults
DEFAULTS_OF: dict[str, type[Defaults]] = {
    "generate": GeneratorDefaults,
    LAYERS: GeneratorDefaults,
    "image": ImageDefaults,
}
"""By job; those of others are an upscaler's."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `legato.json` says about a model folder."""

    name: str
    family: str
    """Of its temporal layers; `image`: it has none."""
    licence: str
    job: str = "upscale"
    scale: int = 4
    """Output pixels per latent cell, each way."""
    prediction_type: str = "v_prediction"
    defaults: Defaults = field(default_factory=UpscalerDefaults)
    sha256: dict[str, str] = field(default_factory=dict)
    """Of every file, by its path in the folder."""

    @property
    def upscaling(self) -> UpscalerDefaults:
        """The defaults of an upscaling model."""
        assert isinstance(self.defaults, UpscalerDefaults)
        return self.defaults

    @property
    def generating(self) -> GeneratorDefaults:
        """The defaults of a generating model."""
        assert isinstance(self.defaults, GeneratorDefaults)
        return self.defaults

    @property
    def imaging(self) -> ImageDefaults:
        """The defaults of a model of images, or of one that holds it."""
        assert isinstance(self.defaults, ImageDefaults)
        return self.defaults

    @property
    def fingerprint(self) -> str:
        """A hash of all files' hashes and all defaults: tells this model from any other."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of `legato.json`."""
        values = asdict(self)
        values["window"] = values["defaults"].pop("window")
        return json.dumps({"format_version": FORMAT_VERSION} | values, indent=2) + "\n"

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "Manifest":
        """Build from the parsed text.

        Raises:
            ModelError: a field is missing, unknown, of the wrong kind or out of range, or the
                format is newer.
        """
        if values.get("format_version") != FORMAT_VERSION:
            raise ModelError(
                f"{MANIFEST} has format_version={values.get('format_version')!r}",
                why=f"this version of legato reads format {FORMAT_VERSION}",
                fix="use a model and a legato that were made for each other",
            )
        given = {key: value for key, value in values.items() if key != "format_version"}
        try:
            kind = DEFAULTS_OF.get(given.get("job", ""), UpscalerDefaults)
            sample = cls(name="", family="", licence="", defaults=kind())
            defaults = {"window": given.pop("window"), **given.pop("defaults")}
            _same_kinds(given, sample)
            _same_kinds(given["sha256"], dict.fromkeys(given["sha256"], ""))
            _same_kinds(defaults, sample.defaults)
            _within_range(defaults)
            return cls(**given, defaults=kind(**defaults))
        except (AttributeError, KeyError, TypeError) as error:
            raise ModelError(f"{MANIFEST} is not understood", why=f"{error}", fix=REFILL) from error


def _same_kinds(given: Mapping[str, object], sample: object) -> None:
    """Compare the kinds of values with a sample's; whole numbers pass for any."""
    kinds = sample if isinstance(sample, dict) else vars(sample)
    for name, value in given.items():
        wanted = type(kinds[name])
        if not isinstance(value, wanted) and not (wanted is float and type(value) is int):
            raise ModelError(
                f"{MANIFEST} has {name}={value!r}",
                why=f"it must be of the kind {wanted.__name__}",
                fix=REFILL,
            )


def _within_range(defaults: Mapping[str, Any]) -> None:
    for name in SHARES:
        if not 0 <= defaults.get(name, 0.0) <= 1:
            raise ModelError(
                f"{MANIFEST} has {name}={defaults[name]!r}",
                why="a share lies between 0 and 1",
                fix=REFILL,
            )
