"""Single images: read upright, and written in the format that a name tells."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from legato.errors import DecodeError, InputError
from legato.video.colour import ColourConverter, ColourTags, declared_tags, tags_of
from legato.video.container import choose_stream, open_container
from legato.video.frame import Alpha, Pixels
from legato.video.icc import PNG_SIGNATURE, png_profile
from legato.video.side_data import colour_profile, side_data

OPAQUE_STILLS = (".jpg", ".jpeg", ".bmp")
DEEP_STILLS = (".png", ".tif", ".tiff")  # which hold 16 bits


def read_image(path: Path) -> tuple[Pixels, Alpha | None]:
    """Return an image as RGB and opacity, upright: a turn or mirroring is applied, as by viewers.

    Raises:
        DecodeError: the file holds no picture that can be decoded.
    """
    with _decoded(path) as (frame, declared):
        pixels, alpha = ColourConverter().to_rgb(frame, tags_of(frame, declared))
        matrix = display_matrix(frame)
    return orient(pixels, matrix), None if alpha is None else orient(alpha, matrix)


def read_profile(path: Path) -> bytes | None:
    """Return an image's colour profile (ICC), or None where it has none.

    Raises:
        DecodeError: the file holds no picture that can be decoded.
    """
    with _decoded(path) as (frame, _):
        return profile_of(path, frame)


@contextlib.contextmanager
def _decoded(path: Path) -> Iterator[tuple[av.VideoFrame, ColourTags]]:
    """Decode a file's first picture, with what its container says of the colour."""
    with open_container(path) as container:
        stream = choose_stream(path, container)
        declared = declared_tags(stream.codec_context)
        try:
            frame = next(container.decode(stream), None)
        except av.error.FFmpegError:
            frame = None
        if frame is None:
            raise DecodeError(f"{path}", why="the picture cannot be decoded", fix="save it again")
        yield frame, declared


def profile_of(path: Path, frame: av.VideoFrame) -> bytes | None:
    """Return the colour profile (ICC) of an image file that was decoded to a picture, or None."""
    with path.open("rb") as file:
        is_png = file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE
    return png_profile(path.read_bytes()) if is_png else colour_profile(frame)


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """Return the nine numbers that say how a decoded picture is to be turned, or None."""
    data = side_data(frame).get("DISPLAYMATRIX")
    return None if data is None else tuple(int(v) for v in np.frombuffer(data, np.int32))


def orient(picture: NDArray[Any], matrix: Sequence[int] | None) -> NDArray[Any]:
    """Return a picture turned and mirrored as its display matrix asks, in steps of 90 degrees.

    The matrix maps stored (x, y) to shown (x', y') = (a x + c y, b x + d y), in 16.16 numbers
    (FFmpeg, libavutil/display.h).
    """
    if matrix is None:
        return picture
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(b) > abs(a):  # rows become columns
        picture, (a, d) = picture.swapaxes(0, 1), (c, b)
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def encode_image(pixels: Pixels, alpha: Alpha | None, suffix: str) -> bytes:
    """Return an image file's bytes; 16 bits and opacity are kept where the format has them."""
    if suffix in OPAQUE_STILLS:
        alpha = None
    if suffix not in DEEP_STILLS and pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)
        alpha = None if alpha is None else np.rint(alpha / 257).astype(np.uint8)
    ordered = pixels[..., ::-1] if alpha is None else np.dstack((pixels[..., ::-1], alpha))
    settings = {
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],  # lossless
    }.get(suffix, [cv2.IMWRITE_JPEG_QUALITY, 97] if suffix.startswith(".j") else [])
    ok, data = cv2.imencode(suffix, np.ascontiguousarray(ordered), settings)
    if not ok:
        raise InputError(f"{suffix} image", why="it cannot be encoded", fix="use .png")
    return bytes(data)
