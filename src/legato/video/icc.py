"""Colour profiles (ICC) in image files: what the numbers of their pixels mean to a viewer."""

import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEADER_END = len(PNG_SIGNATURE) + 25  # the chunk IHDR
JPEG_MARK = b"ICC_PROFILE\0"
JPEG_PART = 65_535 - 2 - len(JPEG_MARK) - 2  # of a segment, less its length, mark and numbers
JPEG_MAX_PARTS = 255
MAX_BYTES = JPEG_PART * JPEG_MAX_PARTS
PROFILED_STILLS = (".png", ".jpg", ".jpeg")


def can_hold(profile: bytes, suffix: str) -> bool:
    """Tell whether an RGB image of a kind can carry a profile: one for CMYK or grey fits none."""
    is_rgb = profile[16:20] == b"RGB "  # ICC.1, 7.2.6: the colour space of the data
    return is_rgb and suffix in PROFILED_STILLS and len(profile) <= MAX_BYTES


def with_profile(image: bytes, profile: bytes | None, suffix: str) -> bytes:
    """Return an image file of `encode_image` with a profile, or as it is where it can hold none.

    Args:
        image: the file's bytes, without a profile.
        profile: the profile as stored in any kind of image; None: there is none.
        suffix: the kind of image, such as `.png`.
    """
    if profile is None or not can_hold(profile, suffix):
        return image
    if suffix == ".png":
        return image[:PNG_HEADER_END] + _png_chunk(profile) + image[PNG_HEADER_END:]
    first = 2  # behind the start of image, and behind JFIF's own segment
    if image[first : first + 2] == b"\xff\xe0":
        first += 2 + int.from_bytes(image[first + 2 : first + 4], "big")
    return image[:first] + _jpeg_segments(profile) + image[first:]


def png_profile(image: bytes) -> bytes | None:
    """Return the profile in the bytes of a PNG, or None where there is none that is whole."""
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(image):
        length, kind = struct.unpack_from(">I4s", image, at)
        if kind == b"iCCP":
            _, _, packed = image[at + 8 : at + 8 + length].partition(b"\0")
            unpacking = zlib.decompressobj()
            try:
                profile = unpacking.decompress(packed[1:], MAX_BYTES)
            except zlib.error:
                return None
            return profile if unpacking.eof else None
        if kind == b"IDAT":
            return None
        at += 12 + length  # with the two numbers above, and a checksum
    return None


def _png_chunk(profile: bytes) -> bytes:
    """Return the chunk iCCP (PNG, 11.3.2.3): a name, the way of compression 0, and the profile."""
    body = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _jpeg_segments(profile: bytes) -> bytes:
    """Return segments APP2 (ICC.1, B.4), each with its number and how many there are."""
    parts = [profile[at : at + JPEG_PART] for at in range(0, len(profile), JPEG_PART)]
    return b"".join(
        b"\xff\xe2"
        + struct.pack(">H", 2 + len(JPEG_MARK) + 2 + len(part))
        + JPEG_MARK
        + bytes((number, len(parts)))
        + part
        for number, part in enumerate(parts, 1)
    )
