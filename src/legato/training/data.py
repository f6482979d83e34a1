"""Training data: folders of videos and photographs packed into one file of small sharp clips.

A packed file holds crops of `CLIP_FRAMES` frames as JPEG pictures (4:4:4) behind an index, so that
a random clip costs one short read. Photographs become clips by a slow random pan and zoom.
"""

import csv
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import DecodeError, InputError
from legato.evaluation.captions import text_of
from legato.evaluation.clips import read_clip
from legato.models.text import words_in
from legato.training.focus import out_of_focus
from legato.video.atomic import put_in_place, remove, temporary_beside, writing
from legato.video.read import read_times

CLIP_FRAMES = 8
CROP = 320
SOFT_SHARE = 0.4
REDUCED_SHARE = 0.25
OUT_OF_FOCUS_SHARE = 0.1
MAGIC = b"LEGATOPK"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".ts"}

Clip = UInt8[ndarray, "T H W 3"]


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """How a folder becomes a packed file."""

    max_mb: float = 1500.0
    """Size of the packed file, megabytes; the clips that fit are spread over all sources."""
    clips_per_source: int = 40
    """Crops taken from each video or photograph at most."""
    quality: int = 97
    """JPEG quality of the stored frames."""
    seed: int = 0
    """Seed of the choice of crops."""
    exclude: tuple[str, ...] = ()
    """Sources whose file names start with one of these are left out."""


def pack(
    folders: list[Path],
    target: Path,
    options: PackOptions,
    *,
    log: Callable[[str], None] = lambda line: None,
) -> int:
    """Pack the videos and photographs of `folders` into `target`; return the number of clips.

    A `MANIFEST.csv` or a text file beside a source names what it shows; its words are stored. A
    source that cannot be read is named and left out. The file appears whole or not at all.

    Raises:
        InputError: the folders hold neither videos nor photographs, or none that gives a clip.
    """
    sources = sources_of(folders, options)
    if not sources:
        names = ", ".join(map(str, folders))
        raise InputError(
            f"no training data in {names}",
            why="no videos or photographs there",
            fix="name a folder that holds some",
        )
    words = _words_of(folders)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_beside(target)
    try:
        with writing(target), part.open("wb") as file:
            count = _pack_sources(file, sources, words, options, log)
        if not count:
            raise InputError(
                f"no training data in {', '.join(map(str, folders))}",
                why=f"nothing there has {CROP} pixels each way, or a video {CLIP_FRAMES} frames",
                fix="name a folder of larger ones",
            )
        put_in_place(part, target)
    finally:
        remove(part)
    return count


def sources_of(folders: list[Path], options: PackOptions) -> list[Path]:
    """Return the videos and photographs of `folders` that are not left out, in order."""
    return sorted(p for folder in folders for p in folder.rglob("*") if _is_source(p, options))


def _pack_sources(
    file: BinaryIO,
    sources: list[Path],
    words: dict[str, list[str]],
    options: PackOptions,
    log: Callable[[str], None],
) -> int:
    """Write the clips of all sources and their index; return how many there are."""
    rng = np.random.default_rng(options.seed)
    budget = options.max_mb * 1e6 / len(sources)
    index: list[dict[str, object]] = []
    file.write(MAGIC + struct.pack("<Q", 0))
    for source in sources:
        spent = file.tell()
        try:
            for clip in _crops(source, options.clips_per_source, rng):
                spans = [_write_jpeg(file, frame, options.quality) for frame in clip]
                shown = words.get(source.name, [])
                index.append({"source": source.stem, "words": shown, "frames": spans})
                if file.tell() - spent > budget:
                    break
        except DecodeError as error:
            log(f"left out {error}")
    start = file.tell()
    file.write(json.dumps(index).encode())
    file.seek(len(MAGIC))
    file.write(struct.pack("<Q", start))
    return len(index)


class PackedClips:
    """Random access to a packed file.

    Raises:
        InputError: the file is not a packed file.
    """

    def __init__(self, path: Path) -> None:
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        if bytes(self.data[:8]) != MAGIC:
            raise InputError(
                f"{path} is no packed data",
                why="it does not start with the mark",
                fix="make it with `legato train`",
            )
        (start,) = struct.unpack("<Q", bytes(self.data[8:16]))
        self.index = json.loads(bytes(self.data[start:]))

    def __len__(self) -> int:
        return len(self.index)

    def clip(self, number: int, first: int = 0, frames: int = CLIP_FRAMES) -> Clip:
        """Decode `frames` frames of clip `number`, from frame `first` on."""
        spans = self.index[number]["frames"][first : first + frames]
        pictures = [cv2.imdecode(self.data[at : at + size], cv2.IMREAD_COLOR) for at, size in spans]
        return np.stack([cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in pictures])

    def words(self, number: int) -> list[str]:
        """Return the words that describe clip `number`."""
        return list(self.index[number]["words"])

    def sources(self) -> list[str]:
        """Return the source of every clip."""
        return [entry["source"] for entry in self.index]


def random_view(
    packed: PackedClips, number: int, rng: np.random.Generator, *, frames: int, size: int
) -> Clip:
    """Return a random crop in space and time of a clip, mirrored, turned or reversed at random.

    Four in ten are enlarged from less: much real footage is soft, and must not be sharpened more
    than it was. A quarter are reduced from more: as crisp as pictures get. One in ten is out of
    focus, most of these in part.
    """
    first = int(rng.integers(0, CLIP_FRAMES - frames + 1))
    clip = packed.clip(number, first, frames)
    draw, side, interpolation = rng.random(), size, cv2.INTER_CUBIC
    if draw < SOFT_SHARE:
        side = int(size * rng.uniform(0.45, 1.0))
    elif draw < SOFT_SHARE + REDUCED_SHARE:
        side, interpolation = int(rng.integers(size, CROP + 1)), cv2.INTER_AREA
    top, left = (int(rng.integers(0, stored - side + 1)) for stored in clip.shape[1:3])
    clip = clip[:, top : top + side, left : left + side]
    if side != size:
        resized = [cv2.resize(f, (size, size), interpolation=interpolation) for f in clip]
        clip = np.stack(resized)
    if rng.random() < OUT_OF_FOCUS_SHARE:
        clip = out_of_focus(clip, rng)
    if rng.random() < 0.5:
        clip = clip[:, :, ::-1]
    if rng.random() < 0.2:
        clip = clip[:, ::-1]
    if rng.random() < 0.3:
        clip = clip.swapaxes(1, 2)
    if rng.random() < 0.5:
        clip = clip[::-1]
    return np.ascontiguousarray(clip)


def _is_source(path: Path, options: PackOptions) -> bool:
    suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    is_left_out = path.name.startswith(options.exclude or ("\0",))
    return path.suffix.lower() in suffixes and not is_left_out and path.is_file()


def _words_of(folders: list[Path]) -> dict[str, list[str]]:
    words: dict[str, list[str]] = {}
    for folder in folders:
        for manifest in folder.rglob("MANIFEST.csv"):
            rows = list(csv.reader(text_of(manifest).splitlines()))[1:]
            for name, *notes in filter(lambda row: len(row) > 1, rows):
                words[name] = words_in(" ".join(notes).replace("_", " "))
        for text in folder.rglob("*.txt"):
            for source in text.parent.glob(f"{text.stem}.*"):
                words[source.name] = words_in(text_of(text))
    return words


def _crops(source: Path, count: int, rng: np.random.Generator) -> Iterator[Clip]:
    if source.suffix.lower() in IMAGE_SUFFIXES:
        (picture,) = read_clip(source)
        if min(picture.shape[:2]) >= CROP:
            for _ in range(max(1, count // 3)):
                yield _pan_and_zoom(picture, rng)
        return
    num_frames = sum(1 for _ in read_times(source))
    if num_frames >= CLIP_FRAMES:
        yield from _crops_of_video(source, num_frames, count, rng)


def _crops_of_video(
    source: Path, num_frames: int, count: int, rng: np.random.Generator
) -> list[Clip]:
    """Crop anywhere, in the order in which it was drawn; one whole frame is in memory at a time."""
    places: list[_Place] = []
    crops: list[list[ndarray]] = [[] for _ in range(count)]
    for index, frame in enumerate(read_clip(source)):
        if min(frame.shape[:2]) < CROP:
            return []
        if not index:
            places = [_place(num_frames, frame.shape, rng) for _ in range(count)]
        for place, crop in zip(places, crops, strict=True):
            if 0 <= index - place.first < CLIP_FRAMES:
                cut = frame[place.top :, place.left :][: place.side, : place.side]
                crop.append(cv2.resize(cut, (CROP, CROP), interpolation=cv2.INTER_AREA))
    return [np.stack(crop) for crop in crops]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a crop is cut from a video."""

    first: int
    top: int
    left: int
    side: int


def _place(num_frames: int, shape: tuple[int, ...], rng: np.random.Generator) -> _Place:
    """Return a place anywhere, to be reduced up to twice.

    Not the most detailed places: most of a real picture is smooth, and must stay smooth.
    """
    rows, cols = shape[:2]
    first = int(rng.integers(0, num_frames - CLIP_FRAMES + 1))
    shrink = (
        float(rng.uniform(1.0, min(2.0, min(rows, cols) / CROP))) if rng.random() < 0.6 else 1.0
    )
    side = int(CROP * shrink)
    top, left = int(rng.integers(0, rows - side + 1)), int(rng.integers(0, cols - side + 1))
    return _Place(first=first, top=top, left=left, side=side)


def _pan_and_zoom(picture: ndarray, rng: np.random.Generator) -> Clip:
    """Move a window over a photograph by sub-pixel steps; it is always reduced, never enlarged."""
    rows, cols = picture.shape[:2]
    largest = min(rows, cols) / CROP
    shrink = float(rng.uniform(1.0, max(1.0, min(3.0, largest / 1.1))))
    speed, zoom = rng.normal(0, 1.5, 2) * shrink, 1 + rng.normal(0, 0.004)
    half = shrink * CROP / 2
    x, y = (
        rng.uniform(half, max(cols - half, half + 1e-3)),
        rng.uniform(half, max(rows - half, half + 1e-3)),
    )
    clip = []
    for _ in range(CLIP_FRAMES):
        matrix = np.array([[shrink, 0, x - half], [0, shrink, y - half]])
        big = int(np.ceil(shrink))  # sample finely, then reduce by area: no aliasing
        matrix[:, :2] /= big
        view = cv2.warpAffine(
            picture,
            matrix,
            (CROP * big, CROP * big),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        clip.append(cv2.resize(view, (CROP, CROP), interpolation=cv2.INTER_AREA))
        x, y, shrink = x + speed[0], y + speed[1], max(1.0, shrink * zoom)
        half = shrink * CROP / 2
    return np.stack(clip)


def _write_jpeg(file: BinaryIO, frame: ndarray, quality: int) -> tuple[int, int]:
    flags = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), flags)
    at = file.tell()
    file.write(data.tobytes())
    return at, data.size
