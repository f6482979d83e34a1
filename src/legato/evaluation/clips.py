"""Clips on disk: ROOT/CLIP/FRAME.png, folders of videos, and one clip by itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import InputError
from legato.pipelines.batch import list_videos
from legato.video.container import list_images, natural_key
from legato.video.frame import Frame
from legato.video.images import orient
from legato.video.probe import VideoFacts, probe
from legato.video.read import ReadReport, read_frames

Picture = UInt8[ndarray, "H W 3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPair:
    """A clip to judge, and its reference where there is one."""

    name: str
    result: Path
    reference: Path | None = None


def find_clips(root: Path) -> dict[str, Path]:
    """Return the clips at a path by their name without suffix, in natural order.

    A folder holds videos, folders of images, or both; a folder that holds images, or a file, is
    one clip.

    Raises:
        InputError: there is no clip, two have one name, or images lie beside clips.
    """
    if not root.exists():
        raise InputError(f"{root}", why="no such file or folder", fix="check the spelling")
    if root.is_file():
        return {root.stem: root}
    folders = [path for path in root.iterdir() if path.is_dir() and list_images(path)]
    clips = sorted([*list_videos(root), *folders], key=natural_key)
    if images := list_images(root):
        if clips:
            raise InputError(
                f"{root} holds {len(images)} images beside {len(clips)} clips",
                why="images of one clip belong into a folder of their own",
                fix="move one kind elsewhere",
            )
        return {root.absolute().name: root}
    if not clips:
        raise InputError(
            f"{root} holds no clip",
            why="neither a video nor a folder of images is in it",
            fix="use ROOT/CLIP/FRAME.png, or a folder of videos",
        )
    found: dict[str, Path] = {}
    for path in clips:
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise InputError(
                f"{root}: two clips are named {name}",
                why=f"{found[name].name} and {path.name} differ in their suffix only",
                fix="rename one of them",
            )
        found[name] = path
    return found


def pair_clips(results: Path, references: Path | None) -> list[ClipPair]:
    """Return each result with the reference of its name; a single one with a single one.

    Raises:
        InputError: see `find_clips`; or a result has no reference, or a reference no result.
    """
    judged = find_clips(results)
    if references is None:
        return [ClipPair(name=name, result=path) for name, path in judged.items()]
    truths = find_clips(references)
    if len(judged) == len(truths) == 1:
        truths = dict(zip(judged, truths.values(), strict=True))
    for names, others, lacks in ((judged, truths, references), (truths, judged, results)):
        if missing := [name for name in names if name not in others]:
            raise InputError(
                f"clip {missing[0]} is not in {lacks}"
                + (f" (nor are {len(missing) - 1} more)" if len(missing) > 1 else ""),
                why="results and references are paired by name without suffix",
                fix="rename or move files until both folders hold the same clips",
            )
    return [
        ClipPair(name=name, result=path, reference=truths[name]) for name, path in judged.items()
    ]


def shown(frame: Frame, facts: VideoFacts) -> Picture:
    """Return a frame as it is shown, upright, in 8 bits."""
    pixels = frame.pixels
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    return np.ascontiguousarray(orient(pixels, facts.display_matrix))


def read_clip(
    path: Path, num_frames: int | None = None, *, notices: list[str] | None = None
) -> Iterator[Picture]:
    """Yield the first frames of a clip, or all of them; one is in memory at a time.

    Args:
        path: a video, a folder of images or an image.
        num_frames: as many at most.
        notices: what had to be mended is added at the end, as sentences.

    Raises:
        DecodeError: the clip cannot be read.
    """
    facts, report = probe(path), ReadReport()
    frames = read_frames(path, facts=facts, report=report)
    yield from (shown(frame, facts) for frame in islice(frames, num_frames))
    if notices is not None:
        notices += [f"{path}: {sentence}" for sentence in report.notices(facts)]


def read_pair(
    pair: ClipPair, num_frames: int | None = None, *, notices: list[str] | None = None
) -> Iterator[tuple[Picture, Picture | None]]:
    """Yield the frames of a result with those of its reference, in order; see `read_clip`.

    Raises:
        InputError: they differ in size or number.
        DecodeError: one of them cannot be read.
    """
    result = read_clip(pair.result, num_frames, notices=notices)
    if pair.reference is None:
        yield from ((picture, None) for picture in result)
        return
    counts = [0, 0]
    for pictures in zip_longest(result, read_clip(pair.reference, num_frames, notices=notices)):
        counts = [n + (p is not None) for n, p in zip(counts, pictures, strict=True)]
        if counts[0] == counts[1]:
            _require_same_size(pair.name, *pictures)
            yield pictures
    if counts[0] != counts[1]:
        raise InputError(
            f"clip {pair.name}: {counts[0]} frames against {counts[1]} of the reference",
            why="frames are paired by their order",
            fix=f"cut both to the same {min(counts)} frames, or judge --frames {min(counts)}",
        )


def _require_same_size(name: str, picture: Picture, truth: UInt8[ndarray, "rows cols 3"]) -> None:
    if picture.shape != truth.shape:
        (rows, cols), (true_rows, true_cols) = picture.shape[:2], truth.shape[:2]
        raise InputError(
            f"clip {name}: {cols}x{rows} against {true_cols}x{true_rows} of the reference",
            why="only pictures of one size can be compared",
            fix="upscale to the reference's size, or crop the reference to the result's",
        )
