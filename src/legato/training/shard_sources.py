"""`legato train shards`: folders of videos and of frames into shards of short clips."""

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from legato.errors import DecodeError, InputError
from legato.evaluation.captions import caption_of
from legato.evaluation.clips import find_clips, read_clip, shown
from legato.evaluation.datasets import SCALE
from legato.pipelines.limits import all_above_zero, all_within, none_empty
from legato.training.degradation import SMALL_CROPS, second_order, sharpen
from legato.training.shards import ShardedClip, ShardWriter
from legato.video.atomic import making_folder
from legato.video.container import IMAGE_SUFFIXES
from legato.video.probe import probe
from legato.video.read import ReadReport, read_frames
from legato.video.shots import ShotDetector

SMALLEST = 32
"""Rows and columns below which a source teaches nothing."""
Clip = UInt8[ndarray, "T H W 3"]


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """`legato train shards`: cut folders of videos into clips that training reads fast."""

    data: tuple[Path, ...]
    """Folders of videos or of folders of frames; NAME.txt beside NAME.mp4 or NAME/ is its caption.
    A folder that itself holds images is taken for the frames of one video, so photographs do not
    belong there, and are left out where their sizes differ; deeper folders are left alone."""
    out: Path
    """Folder of the shards; one set of clips each, so that sets can be mixed."""
    frames: int = 16
    """Frames of a clip; training takes some of them."""
    size: int = 512
    """Largest rows and columns of a clip, cut out at a random place; nothing is enlarged or
    reduced, for that would change what sharp means."""
    clips_per_source: int = 4
    """Clips of each video at most, spread over it; none holds a cut."""
    degrade: bool = False
    """Store the damaged small copy of each clip too: training then needs no time for it, but always
    sees the same one."""
    quality: int = 97
    """JPEG quality of the stored frames (4:4:4)."""
    shard_mb: float = 500.0
    """Size at which the next shard begins."""
    seed: int = 0
    """Seed of places and damage, together with the source's name."""

    def __post_init__(self) -> None:
        none_empty(self, ("data",))
        all_within(self, ("seed",), 0)
        all_within(self, ("quality",), 1, 100)
        all_above_zero(self, ("shard_mb",))
        wrong = self.size < SCALE or self.size % SCALE
        if wrong or min(self.frames, self.clips_per_source) < 1:
            raise InputError(
                f"frames={self.frames}, size={self.size}, clips_per_source={self.clips_per_source}",
                why="counts begin at 1, and the small copy has a pixel for every 4 x 4",
                fix="use for example 16 frames of size 512",
            )


def make_shards(options: ShardOptions, *, log: Callable[[str], None] = lambda line: None) -> Path:
    """Write the shards and return their folder; a source that cannot be read is named and left out.

    Raises:
        InputError: a folder of `data` is not there, no source gives a clip, or the folder holds
            shards already.
    """
    sources = _sources(options)
    total = 0
    with (
        making_folder(options.out),
        ShardWriter(options.out, max_mb=options.shard_mb, quality=options.quality) as writer,
    ):
        for name, path in sources:
            count = 0
            try:
                for count, clip in enumerate(_clips(path, name, options), start=1):
                    writer.write(f"{zlib.crc32(os.fsencode(path)):08x}_{count:03d}", clip)
            except DecodeError as error:
                log(f"left out the rest of {path}: {error}")
            log(f"{path}: {count} clips")
            total += count
        if not total:
            raise _no_clips(options, [path for _, path in sources])
    return options.out


def _sources(options: ShardOptions) -> list[tuple[str, Path]]:
    """Return the names and paths of the sources in all folders.

    Raises:
        InputError: a folder is not there, or holds none.
    """
    return [source for folder in options.data for source in find_clips(folder).items()]


def _no_clips(options: ShardOptions, paths: list[Path]) -> InputError:
    """Return what to say where no source gave a clip."""
    fix = "use longer videos, or fewer --frames"
    if not any(path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES for path in paths):
        fix = "images are taken for the frames of one video: leave photographs to train frames"
    return InputError(
        f"no clips from {', '.join(map(str, options.data))}",
        why=f"no shot there has {options.frames} frames of {SMALLEST} pixels each way",
        fix=fix,
    )


def _clips(path: Path, name: str, options: ShardOptions) -> Iterator[ShardedClip]:
    """Yield the clips of a source: runs of frames within a shot, spread over all such runs."""
    runs = _runs(path, options.frames)
    chosen = runs[:: max(1, -(-len(runs) // options.clips_per_source))]
    rng = np.random.default_rng((options.seed, zlib.crc32(os.fsencode(name))))
    for frames in _frames_of(path, chosen, options.frames):
        if min(frames.shape[1:3]) < SMALLEST:
            return
        clip = _cut(frames, options.size, rng)
        low_res = second_order(sharpen(clip), rng, options=SMALL_CROPS) if options.degrade else None
        yield ShardedClip(frames=clip, low_res=low_res, caption=caption_of(path))


def _runs(path: Path, length: int) -> list[int]:
    """Return the first frame of each run of so many frames that no cut falls into.

    Raises:
        DecodeError: the source cannot be read, or is a folder of photographs.
    """
    detector, facts, report = ShotDetector(), probe(path), ReadReport()
    for index, frame in enumerate(read_frames(path, facts=facts, report=report)):
        detector.feed(index, shown(frame, facts))
    if facts.kind == "images" and report.num_rescaled:
        raise DecodeError(
            f"its images have several sizes, {report.num_rescaled} another than the first",
            why="they are no frames of one video",
            fix="leave photographs to train frames",
        )
    shots = [0, *detector.cuts(), report.num_frames]
    return [
        first
        for start, stop in pairwise(shots)
        for first in range(start, stop - length + 1, length)
    ]


def _frames_of(path: Path, starts: list[int], length: int) -> Iterator[Clip]:
    """Yield runs of frames; one is in memory at a time."""
    run: list[ndarray] = []
    waiting = iter(starts)
    start = next(waiting, None)
    for index, picture in enumerate(read_clip(path)):
        if start is None:
            return
        if index >= start:
            run.append(picture)
        if len(run) == length:
            yield np.stack(run)
            run, start = [], next(waiting, None)


def _cut(clip: Clip, size: int, rng: np.random.Generator) -> UInt8[ndarray, "T rows cols 3"]:
    """Cut out rows and columns that are multiples of 4, at most `size`."""
    rows, cols = (min(size, side - side % SCALE) for side in clip.shape[1:3])
    top, left = (
        int(rng.integers(0, side - kept + 1))
        for side, kept in zip(clip.shape[1:3], (rows, cols), strict=True)
    )
    return clip[:, top : top + rows, left : left + cols]
