"""Frames between two key frames: an interpolator's task, and the one that needs only flow.

A shot streams through: the frames of one interval are held at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

from legato.flow.estimate import FlowEstimator
from legato.flow.warp import warp
from legato.pipelines.blend import Version, merge
from legato.pipelines.lab import from_lab, to_lab

Picture = UInt8[ndarray, "H W 3"]

REACH = 10
"""Frames over which flow is estimated at once; longer flows are composed of such hops."""
_GEOMETRIC_PX, _PHOTOMETRIC = 1.5, 0.08  # errors that cost trust by 1/e; the latter of the range
_OUTSIDE = 10.0
_FLOOR = 0.05  # where both versions are perfect the nearer key frame decides


@runtime_checkable
class Interpolator(Protocol):
    """Gives the frames between two key frames the look of those."""

    def __call__(
        self, frames: Sequence[Picture], first: Picture, last: Picture | None
    ) -> Iterator[Picture]:
        """Yield the frames after the first key frame, in order, RGB.

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
    looks: Iterable[Picture],
    interpolate: Interpolator,
) -> Iterator[Picture]:
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


def _next_look(looks: Iterator[Picture], key: int) -> Picture:
    look = next(looks, None)
    if look is None:
        raise ValueError(f"key frame {key} has no look")
    return look


class FlowBlend:
    """Carries both key frames along the flow and merges them, softly by trust.

    Each version's error is e = |f + b(f)| / 1.5 px + |I - W(I_key)| / 0.08 + a floor, its weight
    its nearness in time times exp(-e). The mixture keeps the contrast of the versions and gets the
    gradients of the one that is selected by error, with hysteresis; see `blend`.

    Args:
        estimate: finds the flow between frames of the input.
    """

    def __init__(self, estimate: FlowEstimator) -> None:
        self._estimate = estimate

    def __call__(
        self, frames: Sequence[Picture], first: Picture, last: Picture | None
    ) -> Iterator[Picture]:
        """Yield the frames between; see `Interpolator`."""
        forward = _Carrier(frames, 0, first, self._estimate)
        if last is None:
            yield from (_to_picture(forward.carry(t).lab) for t in range(1, len(frames)))
            return
        end = len(frames) - 1
        backward = _Carrier(frames, end, last, self._estimate)
        selection: Bool[ndarray, "H W"] | None = None
        for t in range(1, end):
            before = None
            if selection is not None:
                to_previous = forward.flow(t, t - 1)[0][0]
                before = selection, to_previous.permute(1, 2, 0).numpy()
            merged, selection = merge(forward.carry(t), backward.carry(t), t / end, before)
            yield _to_picture(merged)


class _Carrier:
    """Carries the look of one key frame to the other frames of an interval."""

    def __init__(
        self, frames: Sequence[Picture], key: int, look: Picture, estimate: FlowEstimator
    ) -> None:
        self._frames, self._key, self._estimate = frames, key, estimate
        self._look, self._key_frame = _to_tensor(look), _to_tensor(frames[key])
        self._hops: dict[int, tuple[Tensor, Tensor]] = {}

    def carry(self, t: int) -> Version:
        """Return the key frame's look, warped to frame t."""
        to_key, from_key = self._reach(t)
        sources = torch.cat((self._look, self._key_frame, from_key), dim=1)
        warped = warp(sources, to_key, padding="border")[0]
        look, key_frame, home = warped[:3], warped[3:6], warped[6:]
        geometric = (to_key[0] + home).norm(dim=0)
        photometric = (key_frame - _to_tensor(self._frames[t])[0]).abs().mean(dim=0) / 2
        error = geometric / _GEOMETRIC_PX + photometric / _PHOTOMETRIC + _FLOOR
        error = error + _OUTSIDE * _leaves(to_key[0])
        return Version(lab=to_lab(_to_unit(look)), error=error.numpy())

    def flow(self, t: int, other: int) -> tuple[Tensor, Tensor]:
        """Return the flow from frame t to another and back, `1 2 H W`, estimated at once."""
        pair = torch.cat([_to_tensor(self._frames[index]) for index in (t, other)])
        there, back = self._estimate(pair)
        return there.cpu(), back.cpu()

    def _reach(self, t: int) -> tuple[Tensor, Tensor]:
        """Return the flow from frame t to the key frame and back, in hops where it is far."""
        if abs(t - self._key) <= REACH:
            return self.flow(t, self._key)
        away = 1 if t > self._key else -1
        via = self._key + away * REACH * ((abs(t - self._key) - 1) // REACH)
        if via not in self._hops:
            self._hops[via] = self._reach(via)
        (there, back), (onward, home) = self.flow(t, via), self._hops[via]
        return (
            there + warp(onward, there, padding="border"),
            home + warp(back, home, padding="border"),
        )


def _leaves(flow: Float[Tensor, "2 H W"]) -> Float[Tensor, "H W"]:
    """Return 1 where the flow points out of the picture."""
    rows, cols = flow.shape[1:]
    x = torch.arange(cols) + flow[0]
    y = torch.arange(rows)[:, None] + flow[1]
    return ((x < 0) | (x > cols - 1) | (y < 0) | (y > rows - 1)).float()


def _to_tensor(picture: Picture) -> Float[Tensor, "1 3 H W"]:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


def _to_unit(x: Float[Tensor, "3 H W"]) -> Float[ndarray, "H W 3"]:
    return np.ascontiguousarray(((x + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy())


def _to_picture(lab: Float[ndarray, "H W 3"]) -> Picture:
    return np.asarray(cv2.convertScaleAbs(from_lab(lab), alpha=255))  # rounds
