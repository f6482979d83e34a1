"""The embedded decoder on a stream of frames: each is computed once, in pieces of any length.

A temporal convolution looks one frame ahead, so it holds back its last two inputs until the next
piece; after all of them the output lags as many frames behind the input. Before the first frame and
after the last one it sees zeros, as on a whole clip.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from legato.models.tiny_autoencoder import FACTOR, ConditionalTinyDecoder, TemporalResidual


class TinyDecoderStream:
    """Decodes one clip, piece by piece; the pieces together give what the whole clip gives.

    Args:
        decoder: of the embedded model, in evaluation.
    """

    def __init__(self, decoder: ConditionalTinyDecoder) -> None:
        self._decoder = decoder
        self._held: dict[int, Tensor] = {}
        self._low_res: Tensor | None = None

    @torch.no_grad()
    def __call__(
        self,
        latents: Float[Tensor, "T C h w"],
        low_res: Float[Tensor, "T 3 h w"],
        *,
        is_last: bool,
    ) -> Float[Tensor, "t 3 H W"]:
        """Return the frames that are complete, which is none at first and the rest at last.

        Args:
            latents: the next frames' (at least one).
            low_res: the clean small frames that they belong to.
            is_last: whether the clip ends here.
        """
        decoder = self._decoder
        x = decoder.fuse(latents, low_res)
        for index, block in enumerate(decoder.blocks):
            x = block(x) if x.shape[0] else x
            if index < len(decoder.temporal):
                temporal = decoder.temporal[index]
                assert isinstance(temporal, TemporalResidual)
                x = self._advance(index, temporal, x, is_last=is_last)
        waiting = low_res if self._low_res is None else torch.cat((self._low_res, low_res))
        self._low_res = waiting[x.shape[0] :]
        if x.shape[0] == 0:
            rows, cols = (side * FACTOR for side in latents.shape[-2:])
            return torch.zeros(0, 3, rows, cols, device=x.device)
        return decoder.enlarge(x, waiting[: x.shape[0]])

    def _advance(
        self, index: int, temporal: TemporalResidual, x: Float[Tensor, "T C h w"], *, is_last: bool
    ) -> Float[Tensor, "t C h w"]:
        edge = x.new_zeros(1, *x.shape[1:])
        seen = torch.cat((self._held.get(index, edge), x, *([edge] if is_last else [])))
        self._held[index] = seen[-2:].clone()
        if seen.shape[0] < 3:
            return x[:0]
        clip = rearrange(F.silu(seen), "t c h w -> 1 c t (h w)")
        conv = temporal.conv
        moved = F.conv2d(clip, conv.weight, conv.bias)
        return seen[1:-1] + rearrange(moved, "1 c t (h w) -> t c h w", h=x.shape[-2])
