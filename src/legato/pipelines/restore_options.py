"""What a user may choose about the restoration of the picture itself; no files, no codecs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from legato.errors import InputError
from legato.options import require_types
from legato.pipelines.consistency import (
    FOLLOWERS,
    FUSION_REACH,
    UPSCALERS_FRESCO,
    holds,
    sees_other_frames,
)
from legato.pipelines.limits import within

PHASES = ("early", "middle", "late", "none")
MAX_STEPS = 1000
MIN_TILE, MAX_TILE = 16, 1 << 20


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """Everything that changes the restored picture."""

    num_inference_steps: int | None = None
    """Denoising steps, 1 to 1000; more invents more detail and takes longer. Default: the model's
    own."""

    solver: Literal["ddim", "dpm++", "unipc"] = "ddim"
    """How steps follow each other: ddim, or dpm++ and unipc, which look back and need fewer steps;
    refused where there are too few to look back."""

    noise_level: int | None = None
    """How far the model may leave the input: 0 stays close to it, higher numbers hide more of its
    damage and invent more. Default and highest number: the model's own."""

    prompt: str = ""
    """What the picture shows, in words that the model knows; the embedded model takes up to 8."""

    negative_prompt: str = ""
    """What the picture must not look like; counts only with a guidance scale above 1."""

    guidance_scale: float | None = None
    """How strongly the prompt is followed; 1 is twice as fast and without guidance. Default: the
    model's own."""

    consistency: str | None = None
    """What holds the frames together, as a comma list: temporal (the model's temporal layers),
    propagation (estimates carried along the optical flow), fusion (finished frames fused with their
    neighbours), shared-noise (the same for all frames), fresco (the last three, with
    spatial-guided, cross-frame and temporal-guided attention, features and background; or any of
    these), one attention of another system (first-frame, trajectories, first-and-previous,
    nearest-tokens, all-frames), or none. Default: the model's own."""

    propagate: str | None = None
    """At which steps estimates are carried along the flow: early, middle, late, none, or step
    numbers counted from 0 ("3,4"). Default: the model's own."""

    raft: Path | None = None
    """RAFT's weights, safetensors, for propagation and fresco along its flow instead of OpenCV's
    DIS; needs torchvision, time and memory. fusion keeps DIS."""

    color: Literal["wavelet", "adain", "none"] = "wavelet"
    """Colour correction against the input: wavelet keeps the input's slow variations of colour,
    adain its mean and spread per channel."""

    fidelity: float = 0.0
    """0 is the model's own picture; at 1 the output, reduced by area, gives the input again."""

    strength: float = 1.0
    """1 starts from pure noise; less starts part-way, from the input encoded by the model (refused
    where a model carries no encoder)."""

    seed: int = 0
    """Seed of all noise. Each frame's noise depends on this and on its time only."""

    tile: int | None = None
    """Side of the square tiles that are computed at a time, in input pixels; smaller needs less
    memory; 0 computes whole frames. Default: the model's own, or less where memory is short."""

    window: int | None = None
    """Frames that are denoised together. Default: the model's own."""

    approximate: bool = False
    """Let the attention of a full-size decoder read means of 2x2 places instead of every place:
    faster where frames are large, and not exact. How far the first frames are from exact ones is
    measured and told. Refused where a decoder has no such attention, as the embedded model's."""

    compat: Literal["none", "reference"] = "none"
    """reference cuts time as the released Upscale-A-Video does, for comparison with it: windows
    merged by running averages, three frames decoded at a time, a whole shot in one segment. It
    propagates along RAFT, which --raft gives; without, estimates are carried along DIS."""

    def __post_init__(self) -> None:
        require_types(self)
        within("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        within("noise_level", self.noise_level, 0, 999)
        within("guidance_scale", self.guidance_scale, 0.0, 100.0)
        within("fidelity", self.fidelity, 0.0, 1.0)
        within("strength", self.strength, 0.0, 1.0)
        within("seed", self.seed, 0, 2**63 - 1)
        within("window", self.window, 1, 1024)
        if self.tile and not MIN_TILE <= self.tile <= MAX_TILE:
            raise InputError(
                f"tile={self.tile}",
                why="out of range",
                fix=f"use 0 for whole frames, or a number from {MIN_TILE} to {MAX_TILE}",
            )
        if self.solver not in ("ddim", "dpm++", "unipc"):
            raise InputError(
                f"solver={self.solver!r}",
                why="there is no such solver",
                fix="use ddim, dpm++ or unipc",
            )
        if self.color not in ("wavelet", "adain", "none"):
            raise InputError(
                f"color={self.color!r}",
                why="there is no such colour correction",
                fix="use wavelet, adain or none",
            )
        if self.compat not in ("none", "reference"):
            raise InputError(
                f"compat={self.compat!r}",
                why="there is nothing of that name to agree with",
                fix="use none or reference",
            )
        if self.consistency is not None:
            holds(self.consistency)
        if self.propagate is not None:
            propagation_steps(self.propagate, num_inference_steps=MAX_STEPS)


def propagation_steps(propagate: str, *, num_inference_steps: int) -> tuple[int, ...]:
    """Return the steps, counted from 0, at which estimates are carried along the flow.

    `early`, `middle` and `late` are up to three steps, every second one, around the middle of the
    first, second and last third (of 30 steps: 2,4,6 / 12,14,16 / 22,24,26); below 8 steps it is one
    step, and of a single step it is that step.

    Raises:
        InputError: the words mean nothing, or a number is not a step.
    """
    if propagate == "none":
        return ()
    if propagate in PHASES:
        third = PHASES.index(propagate)
        centre = (2 * third + 1) * (num_inference_steps - 1) // 6
        chosen = (centre - 2, centre, centre + 2) if num_inference_steps >= 8 else (centre,)
        return tuple(step for step in chosen if 0 <= step < num_inference_steps)
    return _numbers(propagate, num_inference_steps)


@runtime_checkable
class ModelDefaults(Protocol):
    """What a model was made for; an option left at None takes these."""

    @property
    def steps(self) -> int:
        """Denoising steps."""
        ...

    @property
    def noise_level(self) -> int:
        """Noise on the low-resolution clip."""
        ...

    @property
    def max_noise_level(self) -> int:
        """The strongest noise it has learned."""
        ...

    @property
    def guidance_scale(self) -> float:
        """1: without guidance."""
        ...

    @property
    def window(self) -> int:
        """Frames denoised together."""
        ...

    @property
    def overlap(self) -> int:
        """Frames shared by neighbouring windows."""
        ...

    @property
    def tile(self) -> int:
        """Side of the largest tile in low-resolution pixels; 0: whole frames."""
        ...

    @property
    def decoder_context(self) -> int:
        """Frames on either side that reach a decoded frame."""
        ...

    @property
    def consistency(self) -> str:
        """What holds the frames together, as `RestoreOptions.consistency`."""
        ...

    @property
    def propagate(self) -> str:
        """At which steps, as `RestoreOptions.propagate`."""
        ...

    @property
    def first_estimate_share(self) -> float:
        """Of the first step's clean estimate in the result of several steps."""
        ...

    @property
    def trust(self) -> float:
        """Largest part of the input that comes back in frames that the model barely changed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options after the model's defaults have filled the gaps."""

    num_inference_steps: int
    noise_level: int
    guidance_scale: float
    window: int
    overlap: int
    decoder_context: int
    tile: int
    is_temporal: bool
    propagate: str
    first_estimate_share: float = 0.0
    trust: float = 0.0
    chosen: frozenset[str] = frozenset()
    """What holds the frames together, as `consistency.holds` returns it."""

    @property
    def fuses(self) -> bool:
        """Whether decoded frames are fused with their neighbours."""
        return "fusion" in self.chosen

    @property
    def context(self) -> int:
        """Frames on either side whose latents reach a finished frame."""
        return self.decoder_context + (FUSION_REACH if self.fuses else 0)

    @property
    def is_joint(self) -> bool:
        """Whether the frames of a window see each other."""
        return self.is_temporal or sees_other_frames(self.chosen)


def resolve(
    options: RestoreOptions, defaults: ModelDefaults, *, has_temporal_layers: bool
) -> Settings:
    """Fill what the user left open with the model's defaults.

    Args:
        options: what the user chose.
        defaults: the model's.
        has_temporal_layers: whether the model has any; its defaults may name them all the same.

    Raises:
        InputError: an option that this model, or another option, leaves without effect.
    """
    level = defaults.noise_level if options.noise_level is None else options.noise_level
    if level > defaults.max_noise_level:
        raise InputError(
            f"noise_level={level}",
            why=f"this model has learned levels up to {defaults.max_noise_level}",
            fix=f"use 0 to {defaults.max_noise_level}",
        )
    guidance = defaults.guidance_scale if options.guidance_scale is None else options.guidance_scale
    if options.negative_prompt and guidance <= 1:
        raise InputError(
            f"negative_prompt={options.negative_prompt!r}",
            why=f"it counts only with a guidance scale above 1, which is {guidance:g}",
            fix="set the guidance scale to 2 or more",
        )
    wants_layers = options.consistency is not None and "temporal" in holds(options.consistency)
    if wants_layers and not has_temporal_layers:
        raise InputError(
            f"consistency={options.consistency!r}",
            why="this model has no temporal layers: its frames are independent",
            fix="use propagation or none, or a model that has them",
        )
    chosen, propagate = _consistency(options, defaults)
    if options.raft is not None and propagate == "none":
        _require_following(options.raft, chosen)
    is_temporal, window = "temporal" in chosen, options.window or defaults.window
    return Settings(
        num_inference_steps=options.num_inference_steps or defaults.steps,
        noise_level=level,
        guidance_scale=guidance,
        window=window,
        overlap=min(defaults.overlap, window // 2)
        if is_temporal or sees_other_frames(chosen)
        else 0,
        decoder_context=defaults.decoder_context if is_temporal else 0,
        tile=defaults.tile if options.tile is None else options.tile,
        is_temporal=is_temporal,
        propagate=propagate,
        first_estimate_share=defaults.first_estimate_share,
        trust=defaults.trust,
        chosen=chosen,
    )


def _require_following(raft: Path, chosen: frozenset[str]) -> None:
    """Refuse RAFT where nothing but propagation, which is off, could follow its flow."""
    if chosen.isdisjoint(set(FOLLOWERS) - {"propagation"}):
        raise InputError(
            f"raft={raft}",
            why="nothing here follows the optical flow that it gives",
            fix=f"add {' or '.join(FOLLOWERS)} to --consistency, or leave --raft out",
        )


def _consistency(options: RestoreOptions, defaults: ModelDefaults) -> tuple[frozenset[str], str]:
    """Return what holds the frames together, and the steps of propagation as written.

    What is asked for by name wins over the model's defaults.
    """
    asked = defaults.consistency if options.consistency is None else options.consistency
    chosen = holds(asked, fresco=UPSCALERS_FRESCO)
    if options.propagate is not None:
        forbidden = options.consistency is not None and "propagation" not in chosen
        if forbidden and options.propagate != "none":
            raise InputError(
                f"propagate={options.propagate!r}",
                why=f"consistency={options.consistency!r} switches propagation off",
                fix="add propagation to consistency, or leave propagate out",
            )
        return chosen, options.propagate
    if "propagation" not in chosen:
        return chosen, "none"
    asked_for = options.consistency is not None and defaults.propagate == "none"
    return chosen, "middle" if asked_for else defaults.propagate


def _numbers(propagate: str, num_inference_steps: int) -> tuple[int, ...]:
    parts: Sequence[str] = [part.strip() for part in propagate.split(",")]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise InputError(
            f"propagate={propagate!r}",
            why="it is neither a word that means steps nor a list of step numbers",
            fix=f"use {', '.join(PHASES)}, or numbers such as 3,4",
        )
    steps = sorted({int(part) for part in parts})
    if steps[-1] >= num_inference_steps:
        raise InputError(
            f"propagate={propagate!r}",
            why=f"the steps are 0 to {num_inference_steps - 1}",
            fix="name steps in that range, or use more steps",
        )
    return tuple(steps)
