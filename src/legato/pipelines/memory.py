"""How much memory a job needs, and the largest tile and segment that fit."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from legato.errors import ResourceError
from legato.pipelines.tiles import MULTIPLE, plan_tiles
from legato.video.codecs import CodecName, frames_ahead

SHARE = 0.7  # of what is available: on a CPU too much memory does not raise, it kills
MIN_TILE = 64
MIN_SEGMENT = 4
LIVE_SHARE = 4.0  # peak of live activations over the largest call's input and output, measured
RGB_BYTES = 3 * 4  # float32
DECODED_CLIP_BYTES = 35  # of every pixel of a segment with its context: frames and latents
CLIP_BYTES = 75  # the same while it is denoised: predictions too
NOISE_BYTES = 35  # the same where there are several steps: noise that is started from, and left
SOLVER_BYTES = 48  # the same where the solver is of second order: last x_0, slope, a copy
PROPAGATION_BYTES = 35  # the same where latents are propagated: flow, occlusion
GUIDED_BYTES = 60  # the same where frames see each other: flow of each window, reference latents
FEATURE_BYTES = 48  # of every number of the widest features while they are optimised, measured
LATENT_CHANNELS = 4  # with which these were measured; each further one takes float32 copies:
DENOISED_COPIES, NOISE_COPIES, SOLVER_COPIES = 3, 2, 3
FUSED_COPIES = 10  # of a frame at full size while it is fused with its neighbours
FINISHING_COPIES = 5  # of the frames that are corrected, resized and queued at a time
ENCODED_BYTES = 1.5  # of every pixel of a frame that an encoder holds
ENCODER_FRAMES = 10  # that it holds besides those it looks ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes that a model's own activations take, as `Restorers.footprint` measures them."""

    unet: int
    """Parameters of the U-Net."""
    decoder: int
    """Parameters of the decoder."""
    denoising: float
    """Activations of the U-Net per latent cell of a frame in a window."""
    decoding: float
    """Activations of the decoder per latent cell of a frame that is decoded at a time."""
    held: int = 0
    """What a stream of decoded frames keeps per latent cell of a tile that is not at work."""
    offload: bool = False
    """Whether only the part at work is in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a job computes at a time."""

    rows: int
    cols: int
    frames: int
    """In a segment with its context."""
    scale: int
    window: int
    """Frames denoised together."""
    clip_bytes: int = CLIP_BYTES
    """Of every pixel of every frame, as `bytes_per_pixel` returns it."""
    latent_channels: int = LATENT_CHANNELS
    codec: CodecName = "x264"
    """Of the output: what the encoder holds."""
    fuses: bool = False
    """Whether decoded frames are fused with their neighbours."""
    flow: int = 0
    """Bytes that a network takes for the flow of a pair of frames."""


def bytes_per_pixel(
    *,
    num_steps: int,
    propagates: bool,
    looks_back: bool = False,
    is_guided: bool = False,
    keeps_first: bool = False,
    latent_channels: int = LATENT_CHANNELS,
) -> int:
    """Return what a segment's frames, latents, noise and flow take, and a solver's memory.

    Args:
        num_steps: of the loop.
        propagates: whether estimates are carried along the flow.
        looks_back: whether the solver is of second order.
        is_guided: whether the image model's frames see each other.
        keeps_first: whether the first estimate has a share in the last.
        latent_channels: of the model.
    """
    noise = NOISE_BYTES + SOLVER_BYTES * looks_back if num_steps > 1 else 0
    copies = NOISE_COPIES + SOLVER_COPIES * looks_back if num_steps > 1 else 0
    further = 4 * (DENOISED_COPIES + copies) * (latent_channels - LATENT_CHANNELS)
    if keeps_first and num_steps > 1:
        further += 4 * latent_channels
    return CLIP_BYTES + noise + PROPAGATION_BYTES * propagates + GUIDED_BYTES * is_guided + further


def estimate_bytes(
    footprint: Footprint,
    shape: Shape,
    *,
    tile: int | None,
    frames_decoded: Callable[[int, int], int],
    num_finished: int,
) -> int:
    """Return the expected peak of a segment's memory.

    Args:
        footprint: of the model.
        shape: of a segment.
        tile: longest side in low-resolution pixels; None or 0 for whole frames.
        frames_decoded: how many frames are decoded at a time, of the cells in a tile and a frame.
        num_finished: frames that are finished at a time.
    """
    pixels = shape.rows * shape.cols
    rows, cols = (side + -side % MULTIPLE for side in (shape.rows, shape.cols))
    plan = plan_tiles(rows, cols, tile=tile or 0, multiple=MULTIPLE)
    tiles = [part.rows.size * part.cols.size for part in plan]
    cells = max(tiles)
    clip = pixels * shape.frames
    denoised = min(shape.window, shape.frames)
    activations = max(footprint.denoising * cells * denoised, shape.flow)  # not at the same time
    denoising = activations + shape.clip_bytes * clip
    decoded = min(frames_decoded(cells, pixels), shape.frames)
    merged = RGB_BYTES * decoded * (1 if len(tiles) == 1 else 2)
    finished = min(num_finished, shape.frames) * FINISHING_COPIES + FUSED_COPIES * shape.fuses
    large = (shape.cols * shape.scale, shape.rows * shape.scale)
    encoding = ENCODED_BYTES * (frames_ahead(shape.codec, large) + ENCODER_FRAMES)
    full_size = (merged + RGB_BYTES * finished + encoding) * large[0] * large[1]
    held = footprint.held * (sum(tiles) - cells)
    latents = DECODED_CLIP_BYTES + 4 * (shape.latent_channels - LATENT_CHANNELS)
    decoding = footprint.decoding * cells * decoded + held + latents * clip + full_size
    weights = footprint.unet + footprint.decoder
    if footprint.offload:
        return int(max(footprint.unet + denoising, footprint.decoder + decoding))
    return int(weights + max(denoising, decoding))


def choose_size(
    estimate: Callable[[int | None, int], int],
    tiles: Sequence[int | None],
    segment: int,
    *,
    size: tuple[int, int],
    available: int,
) -> tuple[int | None, int]:
    """Return the first tile that fits, at the longest segment with which one does.

    Args:
        estimate: bytes needed with a tile and a segment.
        tiles: those to try, the wanted one first.
        segment: frames in a segment, as wanted; halved down to `MIN_SEGMENT` where nothing fits.
        size: width and height of the input, to say so.
        available: bytes free on the device.

    Raises:
        ResourceError: even the last tile and the shortest segment need more than `SHARE` of it.
    """
    lengths = [segment]
    while lengths[-1] // 2 >= MIN_SEGMENT:
        lengths.append(lengths[-1] // 2)
    for length in lengths:
        for tile in tiles:
            if estimate(tile, length) <= SHARE * available:
                return tile, length
    least = min(estimate(tile, lengths[-1]) for tile in tiles)
    raise ResourceError(
        f"about {least / 1e9:.1f} GB of memory needed for {size[0]}x{size[1]}, at the least",
        why=f"{available / 1e9:.1f} GB are available and {SHARE:.0%} of them may be used",
        fix="free memory, or use a smaller input"
        if len(tiles) > 1
        else "leave --tile out: a smaller one may fit",
    )


def smaller_tiles(tile: int | None, size: tuple[int, int]) -> list[int]:
    """Return the tiles to try below `tile`, halving from the longer side of a picture."""
    side = tile or max(size)
    power = 2 ** math.ceil(math.log2(max(side, 1)))
    tiles = []
    while (power := power // 2) >= MIN_TILE:
        if power < side:
            tiles.append(power)
    return tiles


@contextmanager
def memory_errors(what: str, *, why: str, fix: str) -> Iterator[None]:
    """Say in our words that memory ran out while the block ran.

    Raises:
        ResourceError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(f"{what}: memory ran out", why=why, fix=fix) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


class ActivationMeter:
    """Measures the bytes that go through a network's modules while the block runs.

    Attributes:
        largest: input and output of the largest module call, in bytes.
    """

    def __init__(self, network: nn.Module) -> None:
        self.largest = 0
        self._leaves = [m for m in network.modules() if next(m.children(), None) is None]

    def __enter__(self) -> "ActivationMeter":
        self._handles = [leaf.register_forward_hook(self._count) for leaf in self._leaves]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _count(self, module: nn.Module, inputs: object, output: object) -> None:
        self.largest = max(self.largest, _bytes(inputs) + _bytes(output))


def _bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.nelement() * value.element_size()
    if isinstance(value, tuple | list):
        return sum(_bytes(part) for part in value)
    return 0
