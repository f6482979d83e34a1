"""Rendered clips packed once: rendering a frame takes as long as several looks at it would.

Of each world there are key frames, the three frames between two of them, and the three between two
of those: what every stage of a generating model learns from, down to single pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy import ndarray
from numpy.lib.format import (
    header_data_from_array_1_0,
    open_memmap,
    write_array_header_1_0,
)
from torch import Tensor

from legato.diffusion.context import BETWEEN
from legato.models.box_layout import MAPS, box_maps
from legato.models.text import WordEncoder
from legato.training.driving.labels import VOCABULARY
from legato.training.driving.render import SIZE, Box, Truth, World
from legato.training.trainer import Batch
from legato.video.atomic import writing

HELD_BACK_FROM = 1_000_000
"""Worlds from this seed on are never learned from."""
KEY_FRAMES = 8
"""Of a clip; the frames between follow them in the pack, first stage first."""
NEW = BETWEEN - 1
MAX_BOXES = 12
MOVES = 0.8
"""Metres per second from which on a direction of motion is seen."""


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which clips are rendered."""

    clips: int = 2000
    """How many there are, each of a world of its own."""
    key_frame_rate: float = 3.75
    """Key frames per second."""
    rate_factors: tuple[float, float] = (1.0, 1.0)
    """Least and greatest of the factors by which a clip's own rate differs, drawn evenly by their
    logarithm; for layers that are told of it."""
    latest_seconds: float = 90.0
    """Clips begin between 0 and this."""
    size: tuple[int, int] = SIZE
    """Rows and columns."""
    first_seed: int = 0
    """Of the worlds."""


def pack_clips(folder: Path, options: ClipOptions) -> Path:
    """Render clips into `frames.npy` and four more arrays, unless they are there.

    `words.npy` holds the labels; `rates.npy` the key frames per second; `places.npy` the key frame
    before the frames of the first stage, and which quarter those of the second divide; `boxes.npy`
    `box_maps`' rows of the key frames, padded with rows of -1.
    """
    if (folder / "frames.npy").exists():
        return folder
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "frames.partial.npy"
    shape = (options.clips, KEY_FRAMES + 2 * NEW, *options.size, 3)
    frames = open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    encoder = WordEncoder(1, VOCABULARY)
    rates = [clip_rate(options, number) for number in range(options.clips)]
    places, words, boxes = [], [], []
    for number in range(options.clips):
        world = World(options.first_seed + number)
        rng = np.random.default_rng((options.first_seed + number, 99))
        begin = float(rng.uniform(0, options.latest_seconds))
        key, quarter = int(rng.integers(KEY_FRAMES - 1)), int(rng.integers(BETWEEN))
        times = [begin + at / rates[number] for at in moments(key, quarter)]
        frames[number], truths = world.clip(times, options.size)
        places.append((key, quarter))
        words.append(encoder.tokens(world.labels.words).numpy().astype(np.uint8))
        boxes.append(np.stack([padded_rows(truth) for truth in truths[:KEY_FRAMES]]))
    frames.flush()
    np.save(folder / "places.npy", np.array(places, np.uint8))
    np.save(folder / "rates.npy", np.array(rates, np.float32))
    np.save(folder / "words.npy", np.stack(words))
    np.save(folder / "boxes.npy", np.stack(boxes))
    partial.replace(folder / "frames.npy")
    return folder


def clip_rate(options: ClipOptions, number: int) -> float:
    """Return the key frames per second of a clip."""
    slowest, fastest = options.rate_factors
    share = float(np.random.default_rng((options.first_seed + number, 98)).uniform())
    return float(options.key_frame_rate * slowest * (fastest / slowest) ** share)


def is_current(path: Path, first: ndarray, *, rounding: float) -> bool:
    """Tell whether an array that a network made is what that network makes now.

    Args:
        path: of the array, if it was made.
        first: its first entry, made anew.
        rounding: largest difference between two devices.
    """
    if not path.exists():
        return False
    stored = np.load(path, mmap_mode="r")[0]
    return stored.shape == first.shape and bool(np.allclose(stored, first, rtol=0, atol=rounding))


def save_array(path: Path, array: ndarray) -> None:
    """Write an array whole or not at all.

    Raises:
        ResourceError: the disk is full.
        InputError: the path may not be written.
    """
    partial, array = path.with_suffix(".partial.npy"), np.ascontiguousarray(array)
    try:
        with writing(path), partial.open("wb") as file:
            # not `np.save`, whose errors do not say that the disk is full
            write_array_header_1_0(file, header_data_from_array_1_0(array))
            file.write(array.data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def moving_moment(
    world: World, rng: np.random.Generator, options: ClipOptions, *, is_forward: bool
) -> float | None:
    """Return when the own car moves one way, fast enough to be seen, for as long as a clip takes.

    None: at none of 200 moments that are tried.
    """
    sign = 1 if is_forward else -1
    for begin in rng.uniform(0, options.latest_seconds, 200):
        times = begin + np.arange(KEY_FRAMES) / options.key_frame_rate
        if min(sign * world.road.own.speed(time) for time in times) > MOVES:
            return float(begin)
    return None


def moments(key: int, quarter: int) -> list[float]:
    """Return when the frames of a clip are, in key frames from the first one on."""
    first = [key + step / BETWEEN for step in range(1, BETWEEN)]
    second = [key + (quarter + step / BETWEEN) / BETWEEN for step in range(1, BETWEEN)]
    return [*map(float, range(KEY_FRAMES)), *first, *second]


def frames_between(places: ndarray, stage: int) -> ndarray:
    """Return which frames of a packed clip are a stage's five, in their order.

    Args:
        places: key frame and quarter, as packed.
        stage: 0 or 1.
    """
    key, quarter = map(int, places)
    first = [key, *range(KEY_FRAMES, KEY_FRAMES + NEW), key + 1]
    if stage == 0:
        return np.array(first)
    new = range(KEY_FRAMES + NEW, KEY_FRAMES + 2 * NEW)
    return np.array([first[quarter], *new, first[quarter + 1]])


def padded_rows(truth: Truth) -> ndarray:
    """Return the nearest boxes of a frame as (`MAX_BOXES`, 5) float16."""
    rows = np.full((MAX_BOXES, 5), -1, np.float16)
    for k, box in enumerate(truth.boxes[:MAX_BOXES]):
        rows[k] = _row(box)
    return rows


def _row(box: Box) -> tuple[float, ...]:
    return box.left, box.top, box.right, box.bottom, float(np.cos(box.heading) > 0.5)


def layout_of(rows: ndarray, latent_rows: int, latent_columns: int) -> Tensor:
    """Return the maps of padded rows."""
    boxes = torch.from_numpy(rows[rows[:, 0] >= 0].astype(np.float32))
    return box_maps(boxes, latent_rows, latent_columns)


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What a batch of a denoising stage holds."""

    batch_size: int = 16
    """Pictures or clips."""
    word_dropout: float = 0.15
    """Share of them whose words are dropped, for guidance; of the others each word is dropped
    with the same probability, so that a few words suffice."""
    layout_dropout: float = 0.5
    """Share of pictures whose boxes are dropped."""
    seed: int = 0


class PackedClips:
    """Clips as `pack_clips` wrote them; latents once they are encoded.

    Every iterator of batches begins at any step, and batch n depends on (seed, n) only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames = np.load(folder / "frames.npy", mmap_mode="r")
        self.places = np.load(folder / "places.npy")
        self.words = np.load(folder / "words.npy")
        self.boxes = np.load(folder / "boxes.npy")
        rates = folder / "rates.npy"  # older packs have none: all are the same
        usual = np.full(len(self.words), ClipOptions.key_frame_rate, np.float32)
        self.rates: ndarray = np.load(rates) if rates.exists() else usual

    def rates_between(self, stage: int) -> ndarray:
        """Return the frames per second of every clip after an interpolation, 0 or 1."""
        return np.asarray(self.rates * np.float32(BETWEEN ** (stage + 1)))

    @property
    def latents(self) -> ndarray:
        """The latents, (clips, frames, channels, h, w) float16."""
        stored: ndarray = np.load(self.folder / "latents.npy", mmap_mode="r")
        return stored

    def crops(self, first: int, *, batch_size: int, size: int, seed: int) -> Iterator[Batch]:
        """Yield batches of square crops of single frames."""
        clips, num_frames, rows, columns, _ = self.frames.shape
        for step in count(first):
            rng = np.random.default_rng((seed, 1, step))
            crops = []
            for k in rng.integers(clips, size=batch_size).tolist():
                frame = rng.integers(num_frames)
                top, left = rng.integers((rows - size + 1, columns - size + 1))
                crop = self.frames[k, frame, top : top + size, left : left + size]
                crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
            yield {"frames": torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).copy())}

    def pictures(self, first: int, options: BatchOptions) -> Iterator[Batch]:
        """Yield batches of single key frames' latents with words and layout."""
        stored = self.latents
        rows, columns = stored.shape[-2:]
        for step in count(first):
            rng = np.random.default_rng((options.seed, 2, step))
            chosen = rng.integers((len(stored), KEY_FRAMES), size=(options.batch_size, 2)).tolist()
            maps = [
                torch.zeros(MAPS, rows, columns)
                if rng.random() < options.layout_dropout
                else layout_of(self.boxes[k, frame], rows, columns)
                for k, frame in chosen
            ]
            yield {
                "latents": _tensor(stored[tuple(np.transpose(chosen))]),
                "words": self._words([k for k, _ in chosen], rng, options.word_dropout),
                "layout": torch.stack(maps),
            }

    def key_frames(self, first: int, options: BatchOptions) -> Iterator[Batch]:
        """Yield batches of clips of key frames with their words and frames per second."""
        stored = self.latents
        for step in count(first):
            rng = np.random.default_rng((options.seed, 3, step))
            chosen = rng.integers(len(stored), size=options.batch_size).tolist()
            yield {
                "latents": _tensor(stored[chosen, :KEY_FRAMES]),
                "words": self._words(chosen, rng, options.word_dropout),
                "frame_rate": torch.from_numpy(self.rates[chosen]),
            }

    def between(self, first: int, options: BatchOptions) -> Iterator[Batch]:
        """Yield batches of five frames of which the outer two are given, of both stages."""
        stored = self.latents
        for step in count(first):
            rng = np.random.default_rng((options.seed, 4, step))
            chosen = rng.integers(len(stored), size=options.batch_size).tolist()
            stages = rng.integers(2, size=options.batch_size).tolist()
            clips = [
                stored[k, frames_between(self.places[k], stage)]
                for k, stage in zip(chosen, stages, strict=True)
            ]
            yield {
                "latents": _tensor(np.stack(clips)),
                "words": self._words(chosen, rng, options.word_dropout),
                "stage": torch.tensor(stages),
                "frame_rate": torch.from_numpy(
                    self.rates[chosen] * np.float32(BETWEEN) ** (1 + np.array(stages, np.float32))
                ),
            }

    def moving(self, first: int, *, batch_size: int, size: int, seed: int) -> Iterator[Batch]:
        """Yield batches of square crops of five neighbouring frames of a video."""
        rows, columns = self.frames.shape[2:4]
        for step in count(first):
            rng = np.random.default_rng((seed, 5, step))
            crops = []
            for k in rng.integers(len(self.frames), size=batch_size).tolist():
                top, left = rng.integers((rows - size + 1, columns - size + 1))
                clip = self.frames[k, frames_between(self.places[k], int(rng.integers(2)))]
                crops.append(clip[:, top : top + size, left : left + size])
            yield {"frames": torch.from_numpy(np.stack(crops).transpose(0, 1, 4, 2, 3).copy())}

    def _words(self, chosen: list[int], rng: np.random.Generator, dropout: float) -> Tensor:
        return torch.from_numpy(np.stack([self._some_words(k, rng, dropout) for k in chosen]))

    def _some_words(self, number: int, rng: np.random.Generator, dropout: float) -> ndarray:
        tokens = self.words[number].astype(np.int64)
        if rng.random() < dropout:
            return np.zeros_like(tokens)
        kept = [t for t in tokens[tokens > 0] if rng.random() >= dropout]
        return np.array(kept + [0] * (len(tokens) - len(kept)))


def _tensor(stored: ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(stored).astype(np.float32))
