"""Which frames of a generated video are made when: key frames, and what lies between them.

n frames become 4 (n - 1) + 1 by one interpolation: 8 key frames become 29 and then 113, and key
frames stand untouched at every 4th or 16th place (Blattmann et al. 2023, arXiv:2304.08818).
"""

from dataclasses import dataclass

from legato.diffusion.context import BETWEEN

PAIRS_PER_PART = 8
"""Pairs of neighbouring key frames whose frames between are computed and saved together."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One clip of key frames that is denoised: of `first` to `stop - 1` some are given."""

    first: int
    num_given: int
    stop: int


def plan_calls(num_key_frames: int, *, window: int, context: int, known: int) -> list[Call]:
    """Return the calls that make the key frames, each once.

    Every call has a whole window of frames, so that a longer video begins as a shorter one does.

    Args:
        num_key_frames: wanted; the last call may make more.
        window: frames of a call.
        context: last frames that are given to every call but the first; fewer than the window.
        known: first frames that are there before the first call.
    """
    if num_key_frames <= known:
        return []
    calls = [Call(first=0, num_given=known, stop=window)]
    while calls[-1].stop < num_key_frames:
        first = calls[-1].stop - context
        calls.append(Call(first=first, num_given=context, stop=first + window))
    return calls


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """How many frames there are at each stage."""

    num_frames: int
    """Of the video."""
    interpolations: int
    """Passes that put three frames between two."""

    @property
    def stride(self) -> int:
        """Frames from one key frame to the next."""
        stride: int = BETWEEN**self.interpolations
        return stride

    @property
    def num_key_frames(self) -> int:
        """Fewest key frames that reach the last frame."""
        return -(-(self.num_frames - 1) // self.stride) + 1

    @property
    def num_latents(self) -> int:
        """Frames after the interpolations, of which the last few may not be needed."""
        return (self.num_key_frames - 1) * self.stride + 1

    @property
    def parts(self) -> list[tuple[int, int]]:
        """First and last key frame of each part of the interpolations, both belonging to it."""
        last = self.num_key_frames - 1
        starts = range(0, max(last, 1), PAIRS_PER_PART)
        return [(start, min(start + PAIRS_PER_PART, last)) for start in starts]

    @property
    def bounds(self) -> list[int]:
        """Where the parts begin after the interpolations, and where the last one ends."""
        starts = [first * self.stride for first, _ in self.parts]
        return [*starts, self.num_latents]
