"""Colour matrices, ranges and tags, and the explicit conversion between coded samples and RGB.

Numbers of matrix, primaries and transfer are the code points of ITU-T H.273. RGB here is the coded,
non-linear R'G'B': transfer curves (gamma, PQ, HLG) are carried as tags and never applied.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from legato.video.frame import Alpha, Pixels

RGB, BT709, UNSPECIFIED, BT470BG, SMPTE170M, BT2020 = 0, 1, 2, 5, 6, 9
SRGB_TRANSFER = 13
MATRIX_NAMES = {0: "RGB", 1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M"} | {
    9: "BT.2020",
    10: "BT.2020",
}
SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # H.273 -> swscale's own numbers
LIMITED, FULL = 1, 2
SWSCALE_WHITE = 255 << 8  # swscale widens 8-bit-like white by shifting, so its 16-bit RGB ends here
EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
ALPHA_FORMATS = ("rgba", "rgba64le")
OPAQUE_FORMATS = ("rgb24", "rgb48le")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourTags:
    """How a file's samples map to RGB and what that RGB means, as H.273 code points."""

    matrix: int
    """YUV <-> RGB matrix; 0 where the samples are RGB."""
    primaries: int
    transfer: int
    full_range: bool
    """True: black is 0 and white the largest code; False: 16..235 and 16..240 (of 8 bits)."""
    guessed: bool = False
    """True: the file does not tell its matrix or range, and they follow from the picture's size."""


def resolve_tags(tags: ColourTags, *, width: int, height: int) -> ColourTags:
    """Fill unspecified tags as players do: BT.709 from 1280x577 on, else BT.601.

    The result is what must be written to an enlarged file, where a guess from size would differ.
    """
    if tags.matrix == RGB:
        primaries = BT709 if tags.primaries == UNSPECIFIED else tags.primaries
        transfer = SRGB_TRANSFER if tags.transfer == UNSPECIFIED else tags.transfer
        return replace(tags, primaries=primaries, transfer=transfer, full_range=True)
    matrix, guessed = tags.matrix, tags.guessed
    if matrix not in SWSCALE_MATRIX:
        large = width >= 1280 or height > 576
        matrix = BT709 if large else BT470BG if height == 576 else SMPTE170M
        if tags.primaries == BT2020:
            matrix = BT2020
        guessed = True
    primaries = matrix if tags.primaries == UNSPECIFIED else tags.primaries
    transfer = tags.transfer
    if transfer == UNSPECIFIED:
        transfer = {BT2020: 14, 10: 14, BT709: 1, 7: 7}.get(matrix, 6)
    return replace(
        tags,
        matrix=matrix,
        primaries=9 if primaries == 10 else primaries,
        transfer=transfer,
        guessed=guessed,
    )


def declared_tags(context: VideoCodecContext) -> ColourTags:
    """Return what a container says of a stream's colour; ask before decoding overwrites it."""
    return ColourTags(
        matrix=context.colorspace,
        primaries=context.color_primaries,
        transfer=context.color_trc,
        full_range=context.color_range == FULL,
    )


def tags_of(frame: VideoFrame, declared: ColourTags) -> ColourTags:
    """Return the resolved tags of a decoded frame; what it leaves open its container may tell."""
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    matrix = RGB if is_rgb else _first_specified(frame.colorspace, declared.matrix)
    if matrix == RGB and not is_rgb:  # a muxer's slip: samples are YUV all the same
        matrix = UNSPECIFIED
    known_range = {FULL: True, LIMITED: False}.get(frame.color_range, declared.full_range)
    tags = ColourTags(
        matrix=matrix,
        primaries=_first_specified(frame.color_primaries, declared.primaries),
        transfer=_first_specified(frame.color_trc, declared.transfer),
        full_range=known_range or frame.format.name.startswith("yuvj"),
    )
    found = resolve_tags(tags, width=frame.width, height=frame.height)
    is_grey = sum(not component.is_alpha for component in frame.format.components) == 1
    return replace(found, guessed=False) if is_grey and not is_rgb else found


def bit_depth_of(pixel_format: str) -> int:
    """Return 8, 10, 12 or 16: the smallest of these that holds a component of the format."""
    described = VideoFormat(pixel_format)
    bits = 8 if described.has_palette else max(c.bits for c in described.components)
    return next(depth for depth in (8, 10, 12, 16, 32) if bits <= depth) if bits <= 16 else 16


def has_alpha(pixel_format: str) -> bool:
    """Tell whether a pixel format carries opacity."""
    described = VideoFormat(pixel_format)
    return described.has_palette or any(c.is_alpha for c in described.components)


class ColourConverter:
    """Converts pictures between coded samples and RGB; keeps swscale's tables between calls."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: VideoFrame, tags: ColourTags) -> tuple[Pixels, Alpha | None]:
        """Return a decoded picture as RGB (and opacity): 8-bit as uint8, deeper as full uint16.

        Chroma is interpolated bicubically; every sample is within about half a code of its source
        of the exact matrix.
        """
        name = frame.format.name
        deep, alpha = bit_depth_of(name) > 8, has_alpha(name)
        if frame.format.is_rgb or frame.format.has_palette:
            packed = (
                _deep_rgb(frame) if deep else self._shuffle(frame, "rgba" if alpha else "rgb24")
            )
            opacity = np.ascontiguousarray(packed[..., 3]) if alpha else None
            return np.ascontiguousarray(packed[..., :3]), opacity
        pixels = self._convert(frame, OPAQUE_FORMATS[deep], tags, to_rgb=True).to_ndarray()
        if deep:
            bits = max(c.bits for c in frame.format.components)
            white = ((1 << bits) - 1) << (16 - bits) if tags.full_range else SWSCALE_WHITE
            pixels = _stretch(pixels, white, 65535)
        return np.ascontiguousarray(pixels), self._opacity(frame, deep) if alpha else None

    def from_rgb(
        self, pixels: Pixels, alpha: Alpha | None, *, pixel_format: str, tags: ColourTags
    ) -> VideoFrame:
        """Return RGB (and opacity) as a picture in the coded format, tagged with `tags`.

        uint8 and uint16 go to any depth. Opacity is left out where the format has none, and full
        where the format has some and `alpha` is None.
        """
        described, deep = VideoFormat(pixel_format), bit_depth_of(pixel_format) > 8
        pixels = to_depth(pixels, deep=deep)
        if has_alpha(pixel_format):
            full = np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max, pixels.dtype)
            alpha = full if alpha is None else to_depth(alpha, deep=deep)
        if described.is_rgb:
            frame = self._rgb_frame(pixels, alpha, pixel_format)
        else:
            source_pixels = _stretch(pixels, 65535, SWSCALE_WHITE) if deep else pixels
            source = VideoFrame.from_ndarray(source_pixels, OPAQUE_FORMATS[deep])
            frame = self._convert(source, pixel_format, tags, to_rgb=False)
            if alpha is not None and has_alpha(pixel_format):
                bits = max(c.bits for c in described.components)
                _fill_plane(frame, 3, _quantise(alpha, bits))
        frame.color_range = FULL if tags.full_range else LIMITED
        frame.colorspace = RGB if described.is_rgb else tags.matrix
        frame.color_primaries, frame.color_trc = tags.primaries, tags.transfer
        return frame

    def _convert(
        self, frame: VideoFrame, target: str, tags: ColourTags, *, to_rgb: bool
    ) -> VideoFrame:
        matrix = SWSCALE_MATRIX.get(tags.matrix, SWSCALE_MATRIX[BT709])
        coded = FULL if tags.full_range else LIMITED
        return self._reformatter.reformat(
            frame,
            format=target,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            interpolation=EXACT,
            src_color_range=coded if to_rgb else FULL,
            dst_color_range=FULL if to_rgb else coded,
            threads=1,
        )

    def _shuffle(self, frame: VideoFrame, target: str) -> NDArray[Any]:
        """Return RGB samples in another order, unchanged."""
        return self._reformatter.reformat(frame, format=target, threads=1).to_ndarray()

    def _opacity(self, frame: VideoFrame, deep: bool) -> Alpha:
        if len(frame.planes) == 4:
            component = frame.format.components[3]
            return to_depth(_plane(frame, 3), deep=deep, bits=component.bits)
        return np.ascontiguousarray(self._shuffle(frame, ALPHA_FORMATS[deep])[..., 3])

    def _rgb_frame(self, pixels: Pixels, alpha: Alpha | None, pixel_format: str) -> VideoFrame:
        packed = pixels if alpha is None else np.dstack((pixels, alpha))
        if pixel_format.startswith("gbr"):
            bits = VideoFormat(pixel_format).components[0].bits
            return VideoFrame.from_ndarray(_quantise(packed, bits), pixel_format)
        deep, channels = packed.dtype == np.uint16, packed.shape[2] == 4
        name = (ALPHA_FORMATS if channels else OPAQUE_FORMATS)[deep]
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(packed), name)
        return self._reformatter.reformat(frame, format=pixel_format, threads=1)


def to_depth(samples: NDArray[Any], *, deep: bool, bits: int | None = None) -> NDArray[Any]:
    """Return samples as full-range uint16 (`deep`) or uint8; `bits` says how many they use now."""
    white = (1 << bits) - 1 if bits else int(np.iinfo(samples.dtype).max)
    target = 65535 if deep else 255
    stretched = samples if white == target else _stretch(samples, white, target)
    return np.ascontiguousarray(stretched.astype(np.uint16 if deep else np.uint8, copy=False))


def _first_specified(*values: int) -> int:
    return next((int(v) for v in values if v != UNSPECIFIED), UNSPECIFIED)


def _stretch(samples: NDArray[Any], white: int, target: int) -> NDArray[np.uint16]:
    """Return samples rescaled so that `white` becomes `target`, rounded and clipped."""
    if white == target:
        return samples.astype(np.uint16, copy=False)
    wide = (samples.astype(np.uint32) * target + white // 2) // white
    return np.minimum(wide, 65535).astype(np.uint16)


def _quantise(samples: NDArray[Any], bits: int) -> NDArray[Any]:
    return _stretch(samples, int(np.iinfo(samples.dtype).max), (1 << bits) - 1).astype(
        samples.dtype
    )


def _deep_rgb(frame: VideoFrame) -> NDArray[Any]:
    samples: NDArray[Any] = frame.to_ndarray()
    bits = max(c.bits for c in frame.format.components)
    if frame.format.name.startswith(("bgr", "bgra")):
        samples = np.concatenate((samples[..., 2::-1], samples[..., 3:]), axis=-1)
    if samples.dtype.kind == "f":
        rounded: NDArray[Any] = np.rint(samples.clip(0, 1) * 65535)
        return rounded.astype(np.uint16)
    return _stretch(samples.astype(np.uint16), (1 << bits) - 1, 65535)


def _plane(frame: VideoFrame, index: int) -> NDArray[Any]:
    plane, component = frame.planes[index], frame.format.components[index]
    order = ">" if frame.format.is_big_endian else "<"
    dtype = np.dtype(np.uint8) if component.bits <= 8 else np.dtype(f"{order}u2")
    rows = np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)
    native: NDArray[Any] = rows[:, : plane.width].astype(dtype.newbyteorder("="))
    return native


def _fill_plane(frame: VideoFrame, index: int, samples: NDArray[Any]) -> None:
    plane = frame.planes[index]
    rows = np.frombuffer(bytes(plane), samples.dtype).reshape(plane.height, -1).copy()
    rows[:, : plane.width] = samples
    plane.update(rows.tobytes())
