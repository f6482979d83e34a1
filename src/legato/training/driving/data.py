"""Rendered frames packed once: rendering a frame takes as long as several looks at it would."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from legato.models.box_layout import MAPS, box_maps
from legato.models.text import WordEncoder
from legato.training.driving.labels import VOCABULARY
from legato.training.driving.render import SIZE, Box, Truth, World
from legato.training.trainer import Batch

HELD_BACK_FROM = 1_000_000
"""Worlds from this seed on are never learned from."""
MAX_BOXES = 12


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """Which frames are rendered."""

    frames: int = 12000
    """How many there are."""
    frames_per_world: int = 4
    """Of one seed, at random times."""
    latest_seconds: float = 90.0
    """Times are drawn from 0 to this."""
    size: tuple[int, int] = SIZE
    """Rows and columns."""
    first_seed: int = 0
    """Of the worlds."""


def pack_frames(folder: Path, options: FrameOptions) -> Path:
    """Render frames into `frames.npy`, `words.npy` and `boxes.npy`, unless they are there.

    Boxes are `box_maps`' rows, padded with rows of -1.
    """
    if (folder / "frames.npy").exists():
        return folder
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "frames.partial.npy"
    shape = (options.frames, *options.size, 3)
    frames = open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    encoder = WordEncoder(1, VOCABULARY)
    words, boxes = [], []
    for number, (picture, truth) in enumerate(rendered(options)):
        frames[number] = picture
        words.append(encoder.tokens(truth.labels.words).numpy().astype(np.uint8))
        boxes.append(padded_rows(truth))
    frames.flush()
    np.save(folder / "words.npy", np.stack(words))
    np.save(folder / "boxes.npy", np.stack(boxes))
    partial.replace(folder / "frames.npy")
    return folder


def rendered(options: FrameOptions) -> Iterator[tuple[np.ndarray, Truth]]:
    """Render the frames of the options one after the other."""
    for number in range(options.frames):
        turn, frame = divmod(number, options.frames_per_world)
        if frame == 0:
            world = World(options.first_seed + turn)
            rng = np.random.default_rng((options.first_seed + turn, 99))
        yield world.frame(float(rng.uniform(0, options.latest_seconds)), options.size)


def padded_rows(truth: Truth) -> np.ndarray:
    """Return the nearest boxes of a frame as (`MAX_BOXES`, 5) float16."""
    rows = np.full((MAX_BOXES, 5), -1, np.float16)
    for k, box in enumerate(truth.boxes[:MAX_BOXES]):
        rows[k] = _row(box)
    return rows


def _row(box: Box) -> tuple[float, ...]:
    return box.left, box.top, box.right, box.bottom, float(np.cos(box.heading) > 0.5)


def layout_of(rows: np.ndarray, latent_rows: int, latent_columns: int) -> Tensor:
    """Return the maps of padded rows."""
    boxes = torch.from_numpy(rows[rows[:, 0] >= 0].astype(np.float32))
    return box_maps(boxes, latent_rows, latent_columns)


@dataclass(frozen=True, kw_only=True)
class LatentOptions:
    """What a batch of latents with its conditions holds."""

    batch_size: int = 16
    word_dropout: float = 0.15
    """Share of pictures whose words are dropped, for guidance; of the others each word is dropped
    with the same probability, so that a few words suffice."""
    layout_dropout: float = 0.5
    """Share of pictures whose boxes are dropped."""
    seed: int = 0


class PackedFrames:
    """Frames, words and boxes as `pack_frames` wrote them; latents once they are encoded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames = np.load(folder / "frames.npy", mmap_mode="r")
        self.words = np.load(folder / "words.npy")
        self.boxes = np.load(folder / "boxes.npy")

    def crops(self, first: int, *, batch_size: int, size: int, seed: int) -> Iterator[Batch]:
        """Yield batches of square crops; batch n depends on (seed, n) only."""
        count, rows, columns, _ = self.frames.shape
        step = first
        while True:
            rng = np.random.default_rng((seed, 1, step))
            crops = []
            for k in rng.integers(count, size=batch_size).tolist():
                top, left = rng.integers((rows - size + 1, columns - size + 1))
                crop = self.frames[k, top : top + size, left : left + size]
                crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
            yield {"frames": torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).copy())}
            step += 1

    def latents(self, first: int, options: LatentOptions) -> Iterator[Batch]:
        """Yield batches of latents with words and layout; batch n depends on (seed, n) only."""
        stored = np.load(self.folder / "latents.npy", mmap_mode="r")
        rows, columns = stored.shape[-2:]
        step = first
        while True:
            rng = np.random.default_rng((options.seed, 2, step))
            chosen = rng.integers(len(stored), size=options.batch_size).tolist()
            words = [self._some_words(k, rng, options.word_dropout) for k in chosen]
            maps = [
                torch.zeros(MAPS, rows, columns)
                if rng.random() < options.layout_dropout
                else layout_of(self.boxes[k], rows, columns)
                for k in chosen
            ]
            yield {
                "latents": torch.from_numpy(stored[chosen].astype(np.float32)),
                "words": torch.from_numpy(np.stack(words)),
                "layout": torch.stack(maps),
            }
            step += 1

    def _some_words(self, number: int, rng: np.random.Generator, dropout: float) -> np.ndarray:
        tokens = self.words[number].astype(np.int64)
        if rng.random() < dropout:
            return np.zeros_like(tokens)
        kept = [t for t in tokens[tokens > 0] if rng.random() >= dropout]
        return np.array(kept + [0] * (len(tokens) - len(kept)))
