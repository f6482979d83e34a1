"""From latents to finished frames: in overlapping pieces of time and space, a few at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.spans import Tile, merge_tiles
from legato.errors import ResourceError
from legato.flow.fusion import TemporalFusion
from legato.flow.neighbours import neighbour_motion
from legato.pipelines.colour_fix import ColourFix, bound_chroma, fix_colours
from legato.pipelines.consistency import FUSION_REACH
from legato.pipelines.fidelity import back_project, trust_clean
from legato.pipelines.upscaler import DecoderStream

CELLS_PER_CHUNK = 1 << 20
"""Latent cells that are decoded at a time, context included: 18 frames of 320 x 180."""

CELLS_PER_PIECE = 1 << 16
"""The same of whole frames where a model decodes a stream, which needs no context: one of
320 x 180, whose maps then stay in the cache of a CPU."""

PIXELS_FINISHED = 1 << 20
"""Pixels at full size that are finished at a time, but at least a frame: every copy counts."""

BLACK, NOT_BLACK = -0.96, -0.8  # 2% and 10% of the range from -1 to 1


class BrokenOutputError(ResourceError):
    """The model gave NaN, infinity or black frames; the caller may try again in float32."""


Decode = Callable[[Tensor, Tensor], Tensor]


def frames_decoded(
    cells: int, picture: int, *, context: int, streams: bool, at_full_size: bool = False
) -> int:
    """Return how many frames are decoded at a time, context included.

    Args:
        cells: latent cells of a tile.
        picture: latent cells of a whole frame.
        context: frames on either side that reach a decoded frame.
        streams: whether each frame is decoded once, without context.
        at_full_size: whether the decoder's widest map has the output's size: few at a time then.
    """
    if at_full_size:
        return 2 * context + max(context, 1)
    if streams:
        return max(CELLS_PER_PIECE // picture, 1)
    return 2 * context + max(CELLS_PER_CHUNK // cells - 2 * context, context, 1)


def frames_finished(pixels: int) -> int:
    """Return how many frames of so many pixels are finished at a time."""
    return max(PIXELS_FINISHED // pixels, 1)


@dataclass(frozen=True, kw_only=True)
class Finishing:
    """What happens to decoded frames."""

    color: ColourFix
    trust: float
    """Largest part of the input that comes back in frames that the model barely changed."""
    fidelity: float
    bounds_chroma: bool
    """Whether colours stay near those of the input; not as the reference does."""
    fuses: bool
    """Whether frames are fused with their neighbours before that."""

    def needed(self, emitted: tuple[int, int], num_frames: int) -> tuple[int, int]:
        """Return the range of frames to decode for those to emit, of a clip of so many."""
        reach = FUSION_REACH if self.fuses else 0
        return max(emitted[0] - reach, 0), min(emitted[1] + reach, num_frames)

    def trusted(
        self, frames: Float[Tensor, "T 3 sH sW"], low_res: Float[Tensor, "T 3 H W"]
    ) -> Float[Tensor, "T 3 sH sW"]:
        """Give back of the input what is trusted, before fusion, which steadies it too."""
        if not self.trust:
            return frames
        few = frames_finished(frames.shape[-2] * frames.shape[-1])
        for k in range(0, frames.shape[0], few):
            frames[k : k + few] = trust_clean(
                frames[k : k + few], low_res[k : k + few], most=self.trust
            )
        return frames

    def __call__(
        self, frames: Float[Tensor, "T 3 sH sW"], low_res: Float[Tensor, "T 3 H W"]
    ) -> Float[Tensor, "T 3 sH sW"]:
        """Correct colours, agree with the input, clip to [-1, 1]; the frames are used up."""
        fixed = fix_colours(frames, low_res, method=self.color)
        if self.bounds_chroma:
            fixed = bound_chroma(fixed, low_res)
        return back_project(fixed, low_res, fidelity=self.fidelity).clamp_(-1, 1)


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Decodes a range of a clip's latents.

    Args:
        decode: ("1 T C h w", "1 T 3 h w" clean low-resolution clip) -> "1 T 3 sh sw".
        tiles: plan over latent cells.
        context: frames on either side that reach a decoded frame.
        scale: output pixels per cell, each way.
        size: (rows, cols) of the input before padding.
        at_full_size: whether the decoder's widest map has the output's size.
        open_stream: begins to decode a clip piece by piece, each frame once, and to give out a
            range of it; None: pieces overlap by the context instead.
        together: frames decoded at a time, from the first one on; None: as many as memory is meant
            for, evenly.
    """

    decode: Decode
    tiles: list[Tile]
    context: int
    scale: int
    size: tuple[int, int]
    at_full_size: bool = False
    open_stream: Callable[[range], DecoderStream] | None = None
    together: int | None = None

    def num_pieces(self, emitted: tuple[int, int], num_frames: int) -> int:
        """Return how many pieces `run` gives for a clip of so many frames."""
        if self.open_stream is None:
            return len(self.chunks(*emitted))
        return len(self._pieces(emitted, num_frames))

    def run(
        self,
        latents: Float[Tensor, "1 T C h w"],
        low_res: Float[Tensor, "1 T 3 h w"],
        emitted: tuple[int, int],
    ) -> Iterator[tuple[int, Float[Tensor, "t 3 sH sW"]]]:
        """Yield decoded pieces in order, each with the index of its first frame; some are empty.

        Args:
            latents: of the whole clip.
            low_res: padded, of the whole clip.
            emitted: first frame to give out and the one after the last.
        """
        if self.open_stream is None:
            for chunk in self.chunks(*emitted):
                yield chunk[0], self(latents, low_res, chunk)
            return
        pieces = self._pieces(emitted, latents.shape[1])
        wanted = range(*(frame - pieces[0][0] for frame in emitted))
        streams = {tile: self.open_stream(wanted) for tile in self.tiles}
        position = emitted[0]
        motions = neighbour_motion(low_res[0, pieces[0][0] : pieces[-1][1]])
        for start, stop in pieces:
            motion = torch.stack(list(islice(motions, stop - start))).to(low_res.device)

            def compute(
                tile: Tile, own: slice = slice(start, stop), motion: Tensor = motion
            ) -> Tensor:
                cells = (
                    slice(tile.rows.start, tile.rows.stop),
                    slice(tile.cols.start, tile.cols.stop),
                )
                return streams[tile](
                    latents[0, own][..., *cells],
                    low_res[0, own][..., *cells],
                    motion[..., *cells],
                    is_last=own.stop == pieces[-1][1],
                )

            frames = self._merged(compute, latents)
            yield position, frames
            position += frames.shape[0]

    def reach(self, emitted: tuple[int, int], num_frames: int) -> range:
        """Return the frames that reach those to emit, of a clip of so many."""
        return range(max(emitted[0] - self.context, 0), min(emitted[1] + self.context, num_frames))

    def _pieces(self, emitted: tuple[int, int], num_frames: int) -> list[tuple[int, int]]:
        """Cut the frames to emit, with the context before and after them all, into pieces."""
        reach = self.reach(emitted, num_frames)
        most = self._frames_decoded(context=0, streams=True)
        return self._even(reach.start, reach.stop, most)

    def _frames_decoded(self, *, context: int, streams: bool) -> int:
        cells = max(tile.rows.size * tile.cols.size for tile in self.tiles)
        return frames_decoded(
            cells,
            self.size[0] * self.size[1],
            context=context,
            streams=streams,
            at_full_size=self.at_full_size,
        )

    @staticmethod
    def _even(start: int, stop: int, most: int) -> list[tuple[int, int]]:
        count = -(-(stop - start) // most)
        return list(pairwise(start + (stop - start) * k // count for k in range(count + 1)))

    def chunks(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Cut a range of frames into pieces that fit the memory meant for them."""
        if self.together is not None:
            starts = range(start, stop, self.together)
            return [(first, min(first + self.together, stop)) for first in starts]
        together = self._frames_decoded(context=self.context, streams=False)
        return self._even(start, stop, together - 2 * self.context)

    @torch.no_grad()
    def __call__(
        self,
        latents: Float[Tensor, "1 T C h w"],
        low_res: Float[Tensor, "1 T 3 h w"],
        chunk: tuple[int, int],
    ) -> Float[Tensor, "t 3 sH sW"]:
        """Return the frames of one chunk, float32, without padding.

        Args:
            latents: of the whole clip.
            low_res: padded, of the whole clip.
            chunk: first frame and the one after the last.
        """
        first = max(chunk[0] - self.context, 0)
        stop = min(chunk[1] + self.context, latents.shape[1])
        own = slice(chunk[0] - first, chunk[1] - first)

        def compute(tile: Tile) -> Tensor:
            rows = slice(tile.rows.start, tile.rows.stop)
            cols = slice(tile.cols.start, tile.cols.stop)
            piece = self.decode(
                latents[:, first:stop, :, rows, cols], low_res[:, first:stop, :, rows, cols]
            )
            return piece[:, own]

        return self._merged(lambda tile: compute(tile)[0], latents)

    def _merged(self, compute: Callable[[Tile], Tensor], latents: Tensor) -> Tensor:
        plane = (latents.shape[-2], latents.shape[-1])
        frames = merge_tiles(self.tiles, compute, size=plane, scale=self.scale)
        rows, cols = (side * self.scale for side in self.size)
        return frames[..., :rows, :cols]


def finished_chunks(
    decoder: Decoder,
    clip: tuple[Float[Tensor, "1 T C h w"], Float[Tensor, "1 T 3 h w"]],
    emitted: tuple[int, int],
    *,
    finish: Finishing,
    on_chunk: Callable[[], None],
) -> Iterator[Float[Tensor, "t 3 sH sW"]]:
    """Yield finished frames in order, on the CPU.

    Args:
        decoder: decodes one chunk.
        clip: latents and padded clean low-resolution frames of the clip.
        emitted: first frame to give out and the one after the last, in the clip.
        finish: what happens to decoded frames.
        on_chunk: called after each chunk.

    Raises:
        BrokenOutputError: a frame is NaN, or black where the input is not.
    """
    num_frames = clip[0].shape[1]
    needed = finish.needed(emitted, num_frames)
    reach = decoder.reach(needed, num_frames)
    latents, low_res = (x[:, reach.start : reach.stop].clone() for x in clip)
    del clip  # the look-ahead has done its work
    emitted, needed = ((a - reach.start, b - reach.start) for a, b in (emitted, needed))
    rows, cols = decoder.size
    small = low_res[0, :, :, :rows, :cols]
    fusion, fused = TemporalFusion(), needed[0]
    for first, decoded in decoder.run(latents, low_res, needed):
        stop = first + decoded.shape[0]
        if is_broken(decoded, small[first:stop]):
            raise BrokenOutputError(
                "the model's output is broken",
                why="some frames are not numbers, or black where the input is not",
                fix="use --dtype float32, or another model",
            )
        decoded = finish.trusted(decoded, small[first:stop])
        frames = fusion(decoded, is_last=stop == needed[1]) if finish.fuses else decoded
        own = slice(max(emitted[0] - fused, 0), max(emitted[1] - fused, 0))
        wanted, seen = frames[own], small[fused : fused + frames.shape[0]][own]
        few = frames_finished(frames.shape[-2] * frames.shape[-1])
        for k in range(0, wanted.shape[0], few):
            yield finish(wanted[k : k + few], seen[k : k + few]).cpu()
        fused += frames.shape[0]
        on_chunk()


def is_broken(frames: Float[Tensor, "T 3 sH sW"], low_res: Float[Tensor, "T 3 H W"]) -> bool:
    """Tell whether any frame is NaN or infinite, or black while the input's frame is not.

    Black means that no value reaches 2% of the range; an input counts as not black when its
    brightest value reaches 10%.
    """
    if not bool(torch.isfinite(frames).all()):
        return True
    peaks = frames.amax(dim=(1, 2, 3))
    return bool(((peaks < BLACK) & (low_res.amax(dim=(1, 2, 3)) > NOT_BLACK)).any())
