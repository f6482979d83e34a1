"""Samples of captioned clips at the frame rates that the stages of a Video LDM learn from.

With f frames per second in the end, key frames have f / 4^n, and pass p of n interpolations puts
three frames between every two at f / 4^(n - p) (Blattmann et al. 2023, arXiv:2304.08818, section
3.3). A sample depends on (seed, its number) only.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from legato.diffusion.context import BETWEEN
from legato.errors import DecodeError, InputError
from legato.training.batches import PASSED_OVER
from legato.training.captioned_clips import CaptionedClips
from legato.training.pictures import fitted
from legato.training.trainer import Batch

GeneratorStage = Literal["key_frames", "interpolation", "decoder"]
SLOWEST = 0.75
"""Frames per second of a clip, as a share of those that are learned: with fewer, motion would be
that much faster than it is said to be."""
TRIES = 50
"""Clips that are looked at for one that can be decoded."""


@dataclass(frozen=True, kw_only=True)
class ClipSampleOptions:
    """What a sample holds."""

    stage: GeneratorStage
    size: tuple[int, int]
    """Columns and rows: frames are scaled to cover them, and the rest is cut off evenly."""
    crop: int
    """Largest rows and columns of what the decoder learns from, cut out at a random place."""
    frames: int = 8
    """Frames of a clip; an interpolation has five."""
    key_frame_rate: float = 1.875
    """Key frames per second."""
    interpolations: int = 2
    """Passes that put three frames between two."""
    text_dropout: float = 0.1
    """Share of clips whose caption is dropped, for guidance."""
    seed: int = 0

    @property
    def length(self) -> int:
        """Frames of a sample."""
        return BETWEEN + 1 if self.stage == "interpolation" else self.frames

    @property
    def cut(self) -> tuple[int, int]:
        """Columns and rows of a sample."""
        width, height = self.size
        if self.stage != "decoder":
            return width, height
        return min(width, self.crop), min(height, self.crop)

    def gaps(self, stride: int) -> list[int]:
        """Return the possible steps from one frame of a sample to its next, by the pass.

        Args:
            stride: such a step once all passes are done.
        """
        if self.stage == "decoder":
            return [stride]
        passes = range(self.interpolations)
        if self.stage == "key_frames":
            return [stride * BETWEEN**self.interpolations]
        return [stride * BETWEEN ** (self.interpolations - 1 - done) for done in passes]


class ClipSamples(Dataset[Batch]):
    """Samples by their number, without end.

    Raises:
        InputError: a clip is too short, or has too few frames per second.
    """

    def __init__(self, clips: CaptionedClips, options: ClipSampleOptions) -> None:
        self.clips, self.options = clips, options
        for number in range(len(clips)):
            self._require_long_enough(number)

    def __getitem__(self, number: int) -> Batch:
        """Return `frames` T 3 H W as uint8, `words` (the caption), `frame_rate` and `stage`.

        A clip that is damaged is passed over.

        Raises:
            InputError: hardly a clip can be decoded.
        """
        rng = np.random.default_rng((self.options.seed, number))
        passed_over = ""
        for _ in range(TRIES):
            which = int(rng.integers(len(self.clips)))
            try:
                return self._of(which, rng) | {PASSED_OVER: passed_over}
            except DecodeError as error:
                passed_over = f"passed over a clip: {error}"
        raise InputError(
            f"{TRIES} clips drawn",
            why=f"none can be decoded ({passed_over})",
            fix="remove the damaged ones",
        )

    def held_back(self, most: int) -> list[Batch]:
        """Return a batch of each of the first clips, the same at every call.

        Of fewer clips some give several.

        Raises:
            DecodeError: one is damaged.
        """
        rng = np.random.default_rng(self.options.seed)
        return [default_collate([self._of(k % len(self.clips), rng)]) for k in range(most)]

    def _of(self, which: int, rng: np.random.Generator) -> Batch:
        options, clips = self.options, self.clips
        gaps = options.gaps(self._stride(which))
        done = int(rng.integers(len(gaps)))
        gap = gaps[done]
        first = int(rng.integers(clips.num_frames(which) - (options.length - 1) * gap))
        told = rng.random() >= options.text_dropout
        pictures = clips.pictures(which, first, options.length, gap)
        frames = torch.stack([fitted(picture, options.size) for picture in pictures])
        width, height = options.cut
        left, top = (
            int(rng.integers(side - kept + 1))
            for side, kept in zip(options.size, options.cut, strict=True)
        )
        sample: Batch = {
            "frames": frames[..., top : top + height, left : left + width].contiguous(),
            "words": clips.caption(which) if told else "",
            "frame_rate": torch.tensor(clips.rate(which) / gap),
        }
        return sample | ({"stage": done} if options.stage == "interpolation" else {})

    def _rate(self) -> float:
        """Return the frames per second once all passes are done."""
        rate: float = self.options.key_frame_rate * BETWEEN**self.options.interpolations
        return rate

    def _stride(self, which: int) -> int:
        return max(round(self.clips.rate(which) / self._rate()), 1)

    def _require_long_enough(self, which: int) -> None:
        options, clips = self.options, self.clips
        has, rate = clips.rate(which), self._rate()
        if has < SLOWEST * rate:
            raise InputError(
                f"{clips.name(which)} has {has:g} frames per second",
                why=f"{options.key_frame_rate:g} key frames with {options.interpolations} passes "
                f"between them make {rate:g}",
                fix="use a lower --key-frame-rate or fewer --interpolations",
            )
        needed = (options.length - 1) * options.gaps(self._stride(which))[0] + 1
        if clips.num_frames(which) < needed:
            raise InputError(
                f"{clips.name(which)} has {clips.num_frames(which)} frames",
                why=f"{options.length} frames of the stage {options.stage} span {needed}",
                fix="leave it out, or use fewer --frames or a higher --key-frame-rate",
            )
