"""Batches for training at full size: clips of shards, cropped and damaged by worker processes.

A sample depends on (seed, its number) only. A step takes `batch_size` consecutive numbers, whatever
the number of GPUs, of workers and of clips at a time: neither they nor an interruption change what
a run learns from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from torch.utils.data import Dataset, Sampler

from legato.errors import DecodeError, InputError
from legato.evaluation.datasets import SCALE
from legato.training.batches import PASSED_OVER, channels_first, loaded
from legato.training.degradation import SMALL_CROPS, second_order, sharpen
from legato.training.shard_sources import SMALLEST
from legato.training.shards import ShardedClip, Shards
from legato.training.trainer import Batch, Log, silent

TRIES = 50
"""Clips that are looked at for one that is large enough."""


@dataclass(frozen=True, kw_only=True)
class ShardBatchOptions:
    """What a step learns from."""

    batch_size: int = 384
    """Clips of a step, over all GPUs together."""
    frames: int = 8
    """Frames of a clip."""
    size: int = 320
    """Rows and columns of the clean crops, a multiple of 4."""
    text_dropout: float = 0.1
    """Share of clips whose caption is dropped, for guidance."""
    seed: int = 0
    """Seed of everything random in a sample, together with its number."""

    def __post_init__(self) -> None:
        if self.size % SCALE or self.size < SMALLEST or self.frames < 1:
            raise InputError(
                f"frames={self.frames}, size={self.size}",
                why=f"crops are multiples of {SCALE} from {SMALLEST} on, clips have frames",
                fix="use for example 8 frames of size 320",
            )


@dataclass(frozen=True, kw_only=True)
class Share:
    """This process's part of every step."""

    process: int = 0
    """Its number."""
    num_processes: int = 1
    clips_at_once: int = 1
    """Clips of a forward pass."""
    num_workers: int = 8
    """Processes that make its batches; 0: itself."""

    def accumulation(self, batch_size: int) -> int:
        """Return how many forward passes a step takes.

        Raises:
            InputError: the processes cannot share the batch evenly.
        """
        together = self.num_processes * self.clips_at_once
        if batch_size % together or batch_size < together:
            raise InputError(
                f"batch_size={batch_size}",
                why=f"{self.num_processes} processes take {self.clips_at_once} clips at once each",
                fix=f"use a multiple of {together}",
            )
        return batch_size // together


class ShardSamples(Dataset[Batch]):
    """Samples by their number, without end."""

    def __init__(self, shards: Shards, options: ShardBatchOptions) -> None:
        self.shards, self.options = shards, options

    def __getitem__(self, number: int) -> Batch:
        """Return `frames` T 3 H W and `low_res` T 3 h w as uint8, `caption` and `number`.

        A clip that is damaged is passed over.

        Raises:
            InputError: hardly a clip is whole, and as long and large as the options want it.
        """
        options = self.options
        rng = np.random.default_rng((options.seed, number))
        clip, passed_over = self._large_enough(rng)
        frames, low_res = _crop(clip, options.size, rng)
        if low_res is None:
            low_res = second_order(sharpen(frames), rng, options=SMALL_CROPS)
        if rng.random() < 0.5:
            frames, low_res = frames[:, :, ::-1], low_res[:, :, ::-1]
        return {
            "frames": channels_first(frames),
            "low_res": channels_first(low_res),
            "caption": clip.caption if rng.random() >= options.text_dropout else "",
            "number": number,
            PASSED_OVER: passed_over,
        }

    def _large_enough(self, rng: np.random.Generator) -> tuple[ShardedClip, str]:
        passed_over = ""
        for _ in range(TRIES):
            which, wanted = int(rng.integers(len(self.shards))), self.options.frames
            spare = self.shards.num_frames(which) - wanted
            if spare < 0:
                continue
            try:
                clip = self.shards.clip(which, int(rng.integers(spare + 1)), wanted)
            except DecodeError as error:
                passed_over = f"passed over a clip: {error}"
                continue
            if min(clip.frames.shape[1:3]) >= self.options.size:
                return clip, passed_over
        raise InputError(
            f"frames={self.options.frames}, size={self.options.size}",
            why=passed_over or "hardly a clip of the shards is as long and large",
            fix="train on smaller crops of fewer frames, or make larger shards",
        )


class Numbers(Sampler[list[int]]):
    """The sample numbers of one process's batches, from a step on."""

    def __init__(self, first_step: int, batch_size: int, share: Share) -> None:
        self.first_step, self.batch_size, self.share = first_step, batch_size, share

    def __iter__(self) -> Iterator[list[int]]:
        own, together = self.share.clips_at_once, self.share.num_processes
        for step in count(self.first_step):
            for part in range(self.share.accumulation(self.batch_size)):
                first = step * self.batch_size + (part * together + self.share.process) * own
                yield list(range(first, first + own))


def numbered_batches(
    samples: Dataset[Batch],
    batch_size: int,
    share: Share,
    first_step: int,
    *,
    log: Log = silent,
) -> Iterator[Batch]:
    """Yield one process's batches of samples without end, from a step on.

    What the samples passed over is said once for each: they tell it as `PASSED_OVER`.
    """
    numbers, said = Numbers(first_step, batch_size, share), {""}
    for batch in loaded(samples, numbers, num_workers=share.num_workers):
        for line in batch.pop(PASSED_OVER):
            if line not in said:
                log(line)
                said.add(line)
        yield batch


def _crop(
    clip: ShardedClip, size: int, rng: np.random.Generator
) -> tuple[UInt8[ndarray, "T H W 3"], UInt8[ndarray, "T h w 3"] | None]:
    """Cut out the same place of a clip and, where it is there, of its small copy."""
    rows, cols = clip.frames.shape[1:3]
    top, left = (int(rng.integers((side - size) // SCALE + 1)) for side in (rows, cols))
    y, x, small = top * SCALE, left * SCALE, size // SCALE
    low_res = None
    if clip.low_res is not None:
        low_res = clip.low_res[:, top : top + small, left : left + small]
    return clip.frames[:, y : y + size, x : x + size], low_res
