"""Batches of clean clips, their damaged small copies, words and flow, each sample by its number."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from multiprocessing import resource_tracker
from multiprocessing.util import Finalize
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from legato.errors import LegatoError
from legato.flow.dis import DisFlow
from legato.flow.neighbours import neighbour_motion
from legato.flow.occlusion import consistency
from legato.models.text import WordEncoder
from legato.training.data import PackedClips, random_view
from legato.training.degradation import mixed
from legato.training.drawn_foreground import with_foreground
from legato.training.drawn_surface import with_surfaces
from legato.training.trainer import Batch

PASSED_OVER = "passed_over"
"""Of a sample: why what was drawn first could not be taken; empty: it was."""
LAST = -100
"""Priority of what a process does when all else of it is closed."""


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What a batch holds."""

    batch_size: int = 8
    """Clips per batch."""
    frames: int = 1
    """Frames per clip, 1 to 8."""
    size: int = 128
    """Rows and columns of the clean crops, at most `data.CROP`."""
    second_order_share: float = 0.15
    """Share of clips with the full RealBasicVSR degradation."""
    measured_share: float = 0.3
    """Share of clips that are damaged as those of the figures; the others get the fast damage."""
    foreground_share: float = 0.25
    """Share of clips with drawn letters, twigs, strands, bars or leaves before them."""
    surface_share: float = 0.25
    """Share of clips with drawn panels, windows, bricks, blinds, fences or towers in them."""
    word_dropout: float = 0.15
    """Share of clips whose words are dropped, for guidance."""
    flow: bool = False
    """Whether the flow of the clean clip is computed too, for the warping loss."""
    seed: int = 0
    """Seed of everything random in a sample, together with its number."""


class Samples(Dataset[Batch]):
    """Samples by their number, without end; the file is opened where they are made."""

    def __init__(self, path: Path, clips: list[int], options: BatchOptions) -> None:
        self.path, self.clips, self.options = path, clips, options

    @cached_property
    def _source(self) -> tuple[PackedClips, WordEncoder]:
        return PackedClips(self.path), WordEncoder(1)

    def __getitem__(self, number: int) -> Batch:
        """Return sample `number`, which depends on the seed and this number only."""
        return sample(*self._source, self.clips, number, self.options)


def sample(
    packed: PackedClips, words: WordEncoder, clips: list[int], number: int, options: BatchOptions
) -> Batch:
    """Return sample `number`: `frames` T 3 H W and `low_res` T 3 h w as uint8, `words`, `motion`.

    `motion` T 6 h w is what the decoder follows, of the small clip (`flow.neighbours`). With
    `options.flow` there is that of the clean clip too: `flow` and `visible`.
    """
    rng = np.random.default_rng((options.seed, number))
    which = clips[int(rng.integers(len(clips)))]
    clip = random_view(packed, which, rng, frames=options.frames, size=options.size)
    if rng.random() < options.surface_share:
        clip = with_surfaces(clip, rng)
    if rng.random() < options.foreground_share:
        another = clips[int(rng.integers(len(clips)))]
        other = random_view(packed, another, rng, frames=options.frames, size=options.size)
        clip = with_foreground(clip, other, rng)
    low_res = mixed(
        clip,
        rng,
        second_order_share=options.second_order_share,
        measured_share=options.measured_share,
    )
    named = packed.words(which) if rng.random() >= options.word_dropout else []
    batch = {
        "frames": channels_first(clip),
        "low_res": channels_first(low_res),
        "words": words.tokens(named),
    }
    batch["motion"] = torch.stack(list(neighbour_motion(unit_range(batch["low_res"]))))
    return batch | clean_flow(batch["frames"]) if options.flow else batch


def batches(
    path: Path, clips: list[int], options: BatchOptions, first_step: int, *, num_workers: int = 1
) -> Iterable[Batch]:
    """Return the batches from `first_step` on, without end, whoever makes them.

    Args:
        path: packed file.
        clips: numbers of those to learn from.
        options: what a batch holds.
        first_step: number of the first batch.
        num_workers: processes beside the training that make batches, at least one.
    """
    size = options.batch_size
    numbers = (list(range(size * step, size * (step + 1))) for step in count(first_step))
    samples = Samples(path, clips, options)
    return loaded(samples, numbers, num_workers=num_workers, prefetch_factor=4)


def loaded(
    samples: Dataset[Batch],
    numbers: Iterable[list[int]],
    *,
    num_workers: int,
    prefetch_factor: int = 2,
) -> Iterator[Batch]:
    """Yield the batches of samples with these numbers.

    Args:
        samples: by their number.
        numbers: of the samples of each batch.
        num_workers: processes that make batches; 0: this one.
        prefetch_factor: batches that each of them makes beforehand.

    Raises:
        LegatoError: a sample cannot be made, wherever it was tried.
    """
    loader = DataLoader(
        _ErrorsAsValues(samples),
        batch_sampler=numbers,
        collate_fn=_collated,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor if num_workers else None,
        worker_init_fn=begin_worker,
        # a fork beside the threads of torch and FFmpeg can hang
        multiprocessing_context="spawn" if num_workers else None,
    )
    with _stop_signals_withheld():
        made = iter(loader)
    for batch in made:
        if isinstance(batch, LegatoError):
            raise batch
        yield batch


@contextmanager
def _stop_signals_withheld() -> Iterator[None]:
    """Begin processes that Ctrl-C and a closed terminal do not reach: this one ends them in order.

    Reached by them, each would print where it was; `begin_worker` says what SIGTERM does.
    """
    if os.name == "nt":
        yield
        return
    resource_tracker.ensure_running()  # beginning, it would let the signals through again
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _ErrorsAsValues(Dataset[Batch | LegatoError]):
    """Samples, or the error of ours that there is instead: torch would make another one of it."""

    def __init__(self, samples: Dataset[Batch]) -> None:
        self.samples = samples

    def __getitem__(self, number: int) -> Batch | LegatoError:
        try:
            return self.samples[number]
        except LegatoError as error:
            return error


def _collated(samples: list[Batch | LegatoError]) -> Batch | LegatoError:
    for sample in samples:
        if isinstance(sample, LegatoError):
            return sample
    batch: Batch = default_collate(samples)
    return batch


def begin_worker(worker: int) -> None:
    """Begin a process that makes batches: its work is not divided further.

    It ends at once when its work does: the interpreter's own end stops the thread that sends
    batches wherever it is, and within torch that aborts the process. The first SIGTERM is left to
    the training, which goes on to its checkpoint where a whole group of processes was told to end.
    """
    signal.signal(signal.SIGTERM, _next_ends)
    if os.name != "nt":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    Finalize(None, os._exit, args=(0,), exitpriority=LAST)


def _next_ends(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


def unit_range(frames: Tensor) -> Tensor:
    """Return uint8 frames as floats in [-1, 1]."""
    return frames.float() / 127.5 - 1


def clean_flow(frames: UInt8[Tensor, "T 3 H W"]) -> Batch:
    """Return `flow` T-1 2 H W, forward, and where it can be trusted: `visible` T-1 1 H W."""
    forward, backward = DisFlow("ultrafast")(unit_range(frames))
    return {
        "flow": forward,
        "visible": consistency(forward, backward, alpha1=0.01, alpha2=0.5),
    }


def channels_first(clip: UInt8[ndarray, "T H W 3"]) -> UInt8[Tensor, "T 3 H W"]:
    """Return frames as the tensors of torch lie."""
    return torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2)))
