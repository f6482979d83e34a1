"""The embedded decoder on a stream of frames: each is computed once, in pieces of any length.

A temporal convolution looks one frame ahead, so it holds back its last two inputs until the next
piece; after all of them the output lags as many frames behind the input. Before the first frame and
after the last one it sees zeros, as on a whole clip.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.models.tiny_autoencoder import (
    FACTOR,
    Beside,
    ConditionalTinyDecoder,
    TemporalResidual,
    TinyAutoencoderConfig,
    pixels_of,
)

PLACES = 2 * 8
"""Numbers per latent cell that say where the frames beside a frame show what it shows."""


@dataclass
class _Held:
    """What a temporal convolution keeps from one piece to the next."""

    seen: list[Tensor | None] = field(default_factory=lambda: [None])
    """SiLU of the last two frames; at first, what lies before the clip."""
    waiting: list[Tensor] = field(default_factory=list)
    """Frames that wait for the next one."""
    position: int = 0
    """Number of the first of those."""


def held_values(config: TinyAutoencoderConfig) -> int:
    """Return the numbers that a stream keeps for every latent cell of a frame."""
    features = config.num_temporal * (2 + 1) * config.width  # two frames seen, and one that waits
    return features + config.num_temporal * PLACES


class TinyDecoderStream:
    """Decodes one clip, piece by piece; the pieces together give what the whole clip gives.

    Args:
        decoder: of the embedded model, in evaluation.
        wanted: frames of the clip to give out, in order; the others are only what they look at.
    """

    def __init__(self, decoder: ConditionalTinyDecoder, wanted: range) -> None:
        self._decoder, self._wanted = decoder, wanted
        self._position = 0  # of the next frame behind the temporal convolutions
        self._held = [_Held() for _ in decoder.temporal]
        self._beside: dict[int, Beside] = {}
        self._arrived = 0
        self._low_res: Tensor | None = None

    @torch.no_grad()
    def __call__(
        self,
        latents: Float[Tensor, "T C h w"],
        low_res: Float[Tensor, "T 3 h w"],
        motion: Float[Tensor, "T 6 h w"],
        *,
        is_last: bool,
    ) -> Float[Tensor, "t 3 H W"]:
        """Return the wanted frames that are complete: none at first, with the last piece the rest.

        Args:
            latents: the next frames' (at least one).
            low_res: the clean small frames that they belong to.
            motion: of each to the frames before and after, `flow.neighbours.neighbour_motion`.
            is_last: whether the clip ends here.
        """
        decoder = self._decoder
        x = decoder.fuse(latents, low_res)
        for frame in torch.split(motion, 1):
            self._beside[self._arrived] = Beside.of(frame)
            self._arrived += 1
        for held, block, temporal in zip(
            self._held, decoder.blocks, decoder.temporal, strict=False
        ):
            if x.shape[0] == 0:  # never with the last piece
                break
            assert isinstance(temporal, TemporalResidual)
            x = self._advance(held, temporal, block(x), is_last=is_last)
        waiting = low_res if self._low_res is None else torch.cat((self._low_res, low_res))
        start, stop = self._position, self._position + x.shape[0]
        self._low_res, self._position = waiting[x.shape[0] :], stop
        for number in range(start, stop):
            del self._beside[number]
        own = range(max(self._wanted.start, start), min(self._wanted.stop, stop))
        few = latents.shape[0]  # with the last piece more frames come out than went in
        pieces = [
            slice(k - start, min(k + few, own.stop) - start)
            for k in range(own.start, own.stop, few)
        ]
        if not pieces:
            rows, cols = (side * FACTOR for side in latents.shape[-2:])
            return torch.zeros(0, 3, rows, cols, device=x.device)
        done = [self._finished(x[piece], waiting[piece]) for piece in pieces]
        return done[0] if len(done) == 1 else torch.cat(done)

    def _finished(
        self, x: Float[Tensor, "T C h w"], low_res: Float[Tensor, "T 3 h w"]
    ) -> Float[Tensor, "T 3 H W"]:
        """Return pixels of frames that no other frame looks at any more."""
        for block in self._decoder.blocks[len(self._decoder.temporal) :]:
            x = block(x)
        return self._decoder.enlarge(x, low_res)

    def _advance(
        self, held: _Held, temporal: TemporalResidual, x: Float[Tensor, "T C h w"], *, is_last: bool
    ) -> Float[Tensor, "t C h w"]:
        frames = list(torch.split(x, 1))
        beyond: list[Tensor | None] = [None]
        seen = [*held.seen, *(pixels_of(F.silu(frame)) for frame in frames), *(beyond * is_last)]
        waiting = [*held.waiting, *frames]
        ready, first = len(seen) - 2, held.position
        held.seen, held.waiting, held.position = seen[-2:], waiting[ready:], first + ready
        done = [
            temporal.one(waiting[k], seen[k : k + 3], self._beside[first + k]) for k in range(ready)
        ]
        return torch.cat(done) if ready > 1 else done[0] if done else x[:0]
