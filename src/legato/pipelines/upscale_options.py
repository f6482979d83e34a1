"""What changes the result of an upscaling job."""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from legato.errors import InputError
from legato.pipelines.limits import require_leading
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.time_range import TimeRange
from legato.video.codecs import CodecOptions
from legato.video.probe import VideoFacts
from legato.video.read import ReadOptions

DEFAULT_SCALE = Fraction(4)
MIN_SCALE, MAX_SCALE = Fraction(1, 4), Fraction(16)
MAX_OUTPUT_PIXELS = 2**28  # 16384 x 16384: no codec here goes further
MAX_SEGMENT = 4096
PARTS: dict[str, Any] = {"read": ReadOptions, "restore": RestoreOptions, "output": CodecOptions}


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions(TimeRange):
    """Everything that changes the result of `upscale`."""

    read: ReadOptions = field(default_factory=ReadOptions)

    restore: RestoreOptions = field(default_factory=RestoreOptions)

    output: CodecOptions = field(default_factory=CodecOptions)

    scale: float | None = None
    """Output rows per input row, any factor from 0.25 to 16. Default: 4."""

    height: int | None = None
    """Rows of the output as shown on the screen, instead of a scale; the width follows."""

    segment: int = 32
    """Frames that are computed and saved together; memory grows with it."""

    model: str = "embedded-x4"
    """Name of an installed model, or a model folder."""

    caption: str | None = None
    """Image-to-text model of transformers, a folder or a name at the Hugging Face hub: its caption
    of each shot's sharpest frame becomes that shot's prompt. Of a caption the embedded model takes
    the words that it knows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None and self.height is not None:
            raise InputError(
                f"scale={self.scale:g} and height={self.height}",
                why="each of them alone fixes the output's size",
                fix="give one of them",
            )
        if self.scale is not None and not MIN_SCALE <= self.scale <= MAX_SCALE:
            raise InputError(
                f"scale={self.scale:g}",
                why="the model enlarges four times; far from that there is nothing to gain",
                fix=f"use a factor from {float(MIN_SCALE):g} to {MAX_SCALE}",
            )
        if self.height is not None and self.height < 1:
            raise InputError(
                f"height={self.height}", why="a picture has rows", fix="use 1 or more, such as 1080"
            )
        if not 1 <= self.segment <= MAX_SEGMENT:
            raise InputError(
                f"segment={self.segment}",
                why="a segment is a bounded number of frames",
                fix=f"use a number from 1 to {MAX_SEGMENT}",
            )
        if self.caption is not None and self.restore.prompt:
            raise InputError(
                f"prompt={self.restore.prompt!r} and caption={self.caption}",
                why="each of them says what the picture shows",
                fix="give one of them",
            )
        restore = self.restore
        if self.caption is None:  # else the prompts are not known yet
            require_leading(restore.guidance_scale, [restore.prompt], restore.negative_prompt)

    def to_json(self) -> dict[str, Any]:
        """Return a flat dictionary, one entry per flag."""
        nested: dict[str, Any] = asdict(self)
        for part in PARTS:
            nested |= nested.pop(part)
        raft = self.restore.raft
        return nested | {"raft": None if raft is None else str(raft)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "UpscaleOptions":
        """Return the options that `to_json` described."""
        rest = dict(data)
        if rest.get("raft") is not None:
            rest["raft"] = Path(rest["raft"])
        parts = {
            part: kind(**{f.name: rest.pop(f.name) for f in fields(kind) if f.name in rest})
            for part, kind in PARTS.items()
        }
        return cls(**parts, **rest)


def without_range(options: UpscaleOptions) -> UpscaleOptions:
    """Return the options without start and end, which mean nothing for stills."""
    return replace(options, start=None, end=None)


def output_size(facts: VideoFacts, options: UpscaleOptions) -> tuple[int, int]:
    """Return the width and height of the output's stored frames.

    A height is that of the picture on the screen: with a quarter turn it is the stored width.

    Raises:
        InputError: the output would be absurdly small or large.
    """
    scale = output_scale(facts, options)
    if options.height is not None and scale < MIN_SCALE:
        raise InputError(
            f"height={options.height}",
            why=f"that is less than {float(MIN_SCALE):g} of the input's rows",
            fix=f"use {math.ceil(options.height * MIN_SCALE / scale)} or more",
        )
    width, height = facts.scaled(scale)
    if width * height > MAX_OUTPUT_PIXELS:
        raise InputError(
            f"{facts.path}: the output would be {width}x{height}",
            why=f"{width * height / 1e6:.0f} million pixels; at most "
            f"{MAX_OUTPUT_PIXELS / 1e6:.0f} million are supported",
            fix="use a smaller --scale or a --height",
        )
    return width, height


def output_scale(facts: VideoFacts, options: UpscaleOptions) -> Fraction:
    """Return output rows per input row, exactly."""
    if options.height is not None:
        shown_rows = facts.width if facts.rotation_deg % 180 else facts.height
        return Fraction(options.height, shown_rows)
    return DEFAULT_SCALE if options.scale is None else Fraction(str(options.scale))
