"""Frames between two key frames: an interpolator's task, and the one that needs only flow.

A shot streams through: the frames of one interval are held at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8, UInt16
from numpy import ndarray
from torch import Tensor

from legato.flow.estimate import FlowEstimator
from legato.flow.warp import warp
from legato.pipelines.blend import Version, merge
from legato.pipelines.lab import from_lab, to_lab

Picture = UInt8[ndarray, "H W 3"]
"""A frame of the input: 8 bits suffice to find what moves where."""
Look = Float[ndarray, "H W 3"]
"""A translated frame, RGB in [0, 1]: as fine as the output's depth."""

_Carried = tuple[UInt16[ndarray, "H W 3"], Float[ndarray, "H W"]]
_GEOMETRIC_PX, _PHOTOMETRIC = 1.5, 0.08  # errors that cost trust by 1/e; the latter of the range
_WHITE = 65535  # of a look that waits for the one from the other side
_OUTSIDE = 10.0
_FLOOR = 0.05  # where both versions are perfect the nearer key frame decides


@runtime_checkable
class Interpolator(Protocol):
    """Gives the frames between two key frames the look of those."""

    def __call__(self, frames: Sequence[Picture], first: Look, last: Look | None) -> Iterator[Look]:
        """Yield the frames after the first key frame, in order.

        Args:
            frames: of the input, from the one key frame to the other, both included; without
                `last` to the end of the shot.
            first: how the first of them is to look; all pictures are of one size.
            last: how the last of them is to look; it is not yielded. None: only `first` is known.
        """
        ...


def fill(
    frames: Iterable[Picture],
    keys: Sequence[int],
    looks: Iterable[Look],
    interpolate: Interpolator,
) -> Iterator[Look]:
    """Yield a whole shot with the look of its key frames, one interval in memory at a time.

    Args:
        frames: of the input's shot.
        keys: indices of its key frames, ascending, from 0.
        looks: of the key frames, in order; the size of the frames.
        interpolate: makes the frames between.

    Raises:
        ValueError: the first frame is no key frame, or there is a look too few.
    """
    if not keys or keys[0] != 0:
        raise ValueError(f"key frames {list(keys[:3])}... do not begin with the shot")
    source, remaining = iter(frames), iter(looks)
    held = list(islice(source, 1))
    look = _next_look(remaining, 0)
    for start, stop in pairwise(keys):
        held += islice(source, stop - start)
        following = _next_look(remaining, stop)
        yield look
        yield from interpolate(held, look, following)
        held, look = held[-1:], following
    yield look
    yield from interpolate([*held, *source], look, None)


def _next_look(looks: Iterator[Look], key: int) -> Look:
    look = next(looks, None)
    if look is None:
        raise ValueError(f"key frame {key} has no look")
    return look


class FlowBlend:
    """Carries both key frames along the flow and merges them, softly by trust.

    Flow to a key frame is composed of the flows between neighbouring frames, so that fast things
    are not lost. Each version's error is e = |f + b(f)| / 1.5 px + |I - W(I_key)| / 0.08 + a floor,
    its weight its nearness in time times exp(-e); see `blend.merge`.

    An interval takes about 19 bytes per pixel and frame.

    Args:
        estimate: finds the flow between frames of the input.
    """

    def __init__(self, estimate: FlowEstimator) -> None:
        self._estimate = estimate

    def __call__(self, frames: Sequence[Picture], first: Look, last: Look | None) -> Iterator[Look]:
        """Yield the frames between; see `Interpolator`."""
        end = len(frames) - 1
        forward = _Carrier(frames[0], first)
        if last is None:
            for t in range(1, len(frames)):
                onward, home = self._flow(frames[t - 1], frames[t])
                yield _unit(forward.carry(frames[t], home, onward)[0])
            return
        backward = _Carrier(frames[end], last)
        behind: dict[int, _Carried] = {}
        steps: dict[int, tuple[Tensor, Tensor]] = {}  # from frame t to the next, and back
        for t in reversed(range(1, end)):
            onward, home = self._flow(frames[t], frames[t + 1])
            behind[t] = backward.carry(frames[t], onward, home)
            steps[t] = onward.half(), home.half()  # to within 1/16 pixel of 100
        selection: Bool[ndarray, "H W"] | None = None
        for t in range(1, end):
            onward, home = steps.pop(t - 1) if t > 1 else self._flow(frames[0], frames[1])
            ahead = forward.carry(frames[t], home.float(), onward.float())
            to_previous = home[0].float().permute(1, 2, 0).numpy()
            before = None if selection is None else (selection, to_previous)
            merged, selection = merge(_version(*ahead), _version(*behind.pop(t)), t / end, before)
            yield from_lab(merged).clip(0, 1)

    def _flow(self, frame: Picture, following: Picture) -> tuple[Tensor, Tensor]:
        """Return the flow from a frame to the next and back, `1 2 H W`."""
        there, back = self._estimate(torch.cat((_to_tensor(frame), _to_tensor(following))))
        return there.cpu(), back.cpu()


class _Carrier:
    """Carries the look of a key frame from frame to frame, away from it."""

    def __init__(self, key_frame: Picture, look: Look) -> None:
        planes = torch.from_numpy(look).permute(2, 0, 1)[None].float()
        self._sources = torch.cat((planes, _to_tensor(key_frame)), dim=1)
        self._to_key: Tensor | None = None
        self._from_key: Tensor | None = None

    def carry(self, frame: Picture, nearer: Tensor, back: Tensor) -> _Carried:
        """Return the look as warped to the next frame away from the key frame, and its error.

        Args:
            frame: the frame to carry it to.
            nearer: flow from it to the frame that was reached before, or to the key frame.
            back: the reverse.
        """
        if self._to_key is None or self._from_key is None:
            to_key, from_key = nearer, back
        else:
            to_key = nearer + warp(self._to_key, nearer, padding="border")
            from_key = self._from_key + warp(back, self._from_key, padding="border")
        self._to_key, self._from_key = to_key, from_key
        warped = warp(torch.cat((self._sources, from_key), dim=1), to_key, padding="border")[0]
        look, key_frame, home = warped[:3], warped[3:6], warped[6:]
        geometric = (to_key[0] + home).norm(dim=0)
        photometric = (key_frame - _to_tensor(frame)[0]).abs().mean(dim=0) / 2
        error = geometric / _GEOMETRIC_PX + photometric / _PHOTOMETRIC + _FLOOR
        error = error.clamp(max=_OUTSIDE) + _OUTSIDE * _leaves(to_key[0])
        levels = np.ascontiguousarray((look * _WHITE).round().permute(1, 2, 0).numpy())
        return levels.astype(np.uint16), error.half().numpy()


def _version(levels: UInt16[ndarray, "H W 3"], error: Float[ndarray, "H W"]) -> Version:
    return Version(to_lab(_unit(levels)), error.astype(np.float32))


def _unit(levels: UInt16[ndarray, "H W 3"]) -> Look:
    return levels.astype(np.float32) / np.float32(_WHITE)


def _leaves(flow: Float[Tensor, "2 H W"]) -> Float[Tensor, "H W"]:
    """Return 1 where the flow points out of the picture."""
    rows, cols = flow.shape[1:]
    x = torch.arange(cols) + flow[0]
    y = torch.arange(rows)[:, None] + flow[1]
    return ((x < 0) | (x > cols - 1) | (y < 0) | (y > rows - 1)).float()


def _to_tensor(picture: Picture) -> Float[Tensor, "1 3 H W"]:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
