"""Noise that depends on a frame's time and on nothing else.

Never on window, tile, segment, batch or device: a part of a video gets the noise that the whole
would have given it.
"""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def frame_noise(
    shape: Sequence[int], *, seed: int, purpose: str, ticks: Sequence[int]
) -> Float[Tensor, "T *shape"]:
    """Return standard normal noise, one draw of `shape` per frame, float32 on the CPU.

    Args:
        shape: of one frame, e.g. (4, h, w).
        seed: the user's.
        purpose: what the noise is for; different purposes give independent noise.
        ticks: each frame's presentation time in stream ticks, or its index in an image folder.
    """
    frames = [
        torch.randn(tuple(shape), generator=_generator(seed, purpose, tick)) for tick in ticks
    ]
    return torch.stack(frames) if frames else torch.zeros(0, *shape)


def _generator(seed: int, purpose: str, tick: int) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}/{purpose}/{tick}".encode(), digest_size=8).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big") >> 1)
