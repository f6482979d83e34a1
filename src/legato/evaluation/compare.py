"""Two videos in one picture: side by side, split, and one row of pixels over time.

In the temporal profile time runs downwards: what is steady draws smooth lines, what trembles combs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import InputError
from legato.evaluation.clips import Picture, shown
from legato.options import require_types
from legato.pipelines.limits import require_needed
from legato.pipelines.output import require_replaceable
from legato.video.atomic import write_whole
from legato.video.codecs import CodecOptions, choose_codec
from legato.video.frame import Frame
from legato.video.images import encode_image
from legato.video.probe import VideoFacts, probe
from legato.video.read import ReadReport, read_frames
from legato.video.stills import shown_aspect
from legato.video.write import VideoWriter

MAX_PROFILE_FRAMES = 1080
MIN_PROFILE_ROWS = 240
CONTAINERS = (".mp4", ".mov")
_LINE_PX = 2


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How two videos are shown together."""

    layout: Literal["side", "split"] = "side"
    """side: both whole, beside each other; split: one picture, left from A and right from B."""

    split: float = 0.5
    """Where the split lies: 0 is the left edge, 1 the right one."""

    row: float = 0.5
    """Which row of pixels the temporal profile follows: 0 is the top, 1 the bottom."""

    output: CodecOptions = field(default_factory=CodecOptions)

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("split", "row"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(
                    f"{name}={value:g}", why="it is a share of the picture", fix="use 0 to 1"
                )
        require_needed(self, [("split", "--layout split", self.layout == "split")])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` wrote."""

    video: Path
    profile: Path
    num_frames: int
    notices: tuple[str, ...]


def compare(
    a: Path | str, b: Path | str, target: Path | str, options: CompareOptions | None = None
) -> Comparison:
    """Show two videos together, frame by frame in order, and draw their temporal profiles.

    The smaller one is enlarged bicubically to the size of the larger; times are those of A. The
    profile shows A left and B right, at most the first 1080 frames, beside the video as
    NAME.profile.png. A few frames are in memory at a time.

    Args:
        a: the first video, image or folder of images, such as an input.
        b: the second, such as the output.
        target: the video to write, mp4 or mov.
        options: see `CompareOptions`.

    Raises:
        DecodeError: a or b cannot be read.
        InputError: the target is no mp4 or mov, or is a or b itself, or cannot be written.
        ResourceError: the disk is full.
    """
    options = options or CompareOptions()
    a, b, target = Path(a), Path(b), Path(target)
    _check_target(a, b, target)
    facts = probe(a), probe(b)
    size = max((_shown_size(each) for each in facts), key=lambda size: size[0] * size[1])
    width, height = size[0] * (2 if options.layout == "side" else 1), size[1]
    row = round(options.row * (height - 1))
    plain = replace(
        facts[0],
        rotation_deg=0,
        display_matrix=None,
        sample_aspect=shown_aspect(facts[0]),
        has_alpha=False,
        bit_depth=8,
    )
    codec = choose_codec(target, options.output, plain.kind)
    profile: list[ndarray] = []
    notices: list[str] = []
    num_frames = 0
    with VideoWriter(
        target,
        size=(width, height),
        time_base=facts[0].time_base,
        options=codec,
        facts=plain,
    ) as writer:
        for frames in _pairs(facts, notices):
            pictures = [
                _at_size(shown(f, each), size) for f, each in zip(frames, facts, strict=True)
            ]
            writer.write(_together(pictures, options), pts=frames[0].pts)
            if num_frames < MAX_PROFILE_FRAMES:
                profile.append(np.concatenate([picture[row] for picture in pictures]))
            num_frames += 1
    return Comparison(
        video=target,
        profile=_write_profile(target, profile),
        num_frames=num_frames,
        notices=tuple(notices),
    )


def _pairs(
    facts: tuple[VideoFacts, VideoFacts], notices: list[str]
) -> Iterator[tuple[Frame, Frame]]:
    """Yield frames in order as long as both videos have one; then tell what was left or mended."""
    reports = ReadReport(), ReadReport()
    readers = (
        read_frames(each.path, facts=each, report=report)
        for each, report in zip(facts, reports, strict=True)
    )
    for num_frames, (left, right) in enumerate(zip_longest(*readers)):
        if left is None or right is None:
            longer = facts[left is None].path
            notices.append(f"{longer} has more frames; shown are the first {num_frames}")
            break
        yield left, right
    for each, report in zip(facts, reports, strict=True):
        notices += [f"{each.path}: {sentence}" for sentence in report.notices(each)]


def profile_path(target: Path) -> Path:
    """Return where the temporal profile of a comparison lies."""
    return target.with_name(f"{target.stem}.profile.png")


def _check_target(a: Path, b: Path, target: Path) -> None:
    if target.suffix.lower() not in CONTAINERS:
        raise InputError(
            f"{target}",
            why="a comparison is a video in one of two containers",
            fix=f"name a file that ends in {' or '.join(CONTAINERS)}",
        )
    for written in (target, profile_path(target)):
        require_replaceable(written, is_folder=False)
        if written.exists() and any(written.samefile(path) for path in (a, b) if path.exists()):
            raise InputError(f"{written}", why="it is one of the inputs", fix="name another file")


def _shown_size(facts: VideoFacts) -> tuple[int, int]:
    """Width and height with the rotation applied."""
    size = facts.width, facts.height
    return size[::-1] if facts.rotation_deg % 180 else size


def _at_size(picture: Picture, size: tuple[int, int]) -> UInt8[ndarray, "rows cols 3"]:
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC))


def _together(
    pictures: Sequence[Picture], options: CompareOptions
) -> UInt8[ndarray, "rows cols 3"]:
    left, right = pictures
    if options.layout == "side":
        return np.concatenate([left, right], axis=1)
    both, edge = right.copy(), round(options.split * right.shape[1])
    both[:, :edge] = left[:, :edge]
    both[:, max(0, edge - _LINE_PX // 2) : edge + _LINE_PX // 2] = 255
    return both


def profile_picture(rows: Sequence[UInt8[ndarray, "W 3"]]) -> Picture:
    """Stack one row of pixels per frame, repeated so that short clips can be seen."""
    repeats = -(-MIN_PROFILE_ROWS // max(1, len(rows)))
    return np.repeat(np.stack(rows), repeats, axis=0)


def _write_profile(target: Path, rows: Sequence[ndarray]) -> Path:
    path = profile_path(target)
    write_whole(path, encode_image(profile_picture(rows), None, ".png"))
    return path
