"""HDR10's static metadata: the mastering display and the content's light levels.

It travels inside the coded stream (SMPTE ST 2086, CTA-861.3): read from the first frame's side
data, and given to those encoders that can write it.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

from legato.video.side_data import side_data

CHROMATICITY, LUMINANCE = 50_000, 10_000  # units per 1 and per cd/m2 in the coded form
NUM_RATIONALS = 10  # red, green, blue, white: x and y; smallest and largest luminance


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticHdr:
    """What an HDR10 file tells of its mastering; all None where it tells nothing."""

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None
    """Chromaticities of red, green, blue and white."""
    luminance: tuple[Fraction, Fraction] | None = None
    """Smallest and largest luminance of the display in cd/m2."""
    content_light: tuple[int, int] | None = None
    """Brightest pixel and brightest frame average in cd/m2."""


def static_hdr(frame: VideoFrame) -> StaticHdr | None:
    """Return a decoded frame's static HDR metadata, or None where there is none."""
    primaries = luminance = light = None
    found = side_data(frame)
    if "MASTERING_DISPLAY_METADATA" in found:
        data = found["MASTERING_DISPLAY_METADATA"]
        numbers = struct.unpack_from(f"{2 * NUM_RATIONALS}i2i", data)
        has_primaries, has_luminance = numbers[-2:]
        pairs = zip(numbers[0:-2:2], numbers[1:-2:2], strict=True)
        values = [Fraction(n, d) if d else Fraction(0) for n, d in pairs]
        if has_primaries:
            primaries = tuple(zip(values[0:8:2], values[1:8:2], strict=True))
        if has_luminance:
            luminance = (values[8], values[9])
    if "CONTENT_LIGHT_LEVEL" in found:
        light = struct.unpack_from("2I", found["CONTENT_LIGHT_LEVEL"])
    if primaries is None and luminance is None and light is None:
        return None
    return StaticHdr(primaries=primaries, luminance=luminance, content_light=light)


def encoder_parameters(hdr: StaticHdr | None, codec: str) -> dict[str, str]:
    """Return the encoder's own settings that write the metadata; empty where it has none.

    Args:
        hdr: the source's.
        codec: `x264`, `x265` or `av1`; others cannot write it.
    """
    names = {
        "x264": ("mastering-display", "cll"),
        "x265": ("master-display", "max-cll"),
        "av1": ("mastering-display", "content-light"),
    }
    if hdr is None or codec not in names:
        return {}
    display, light = names[codec]
    found = {}
    if hdr.primaries is not None and hdr.luminance is not None:
        found[display] = _display_text(hdr.primaries, hdr.luminance, in_units=codec != "av1")
    if hdr.content_light is not None:
        found[light] = "{},{}".format(*hdr.content_light)
    return found


def _display_text(
    primaries: tuple[tuple[Fraction, Fraction], ...],
    luminance: tuple[Fraction, Fraction],
    *,
    in_units: bool,
) -> str:
    def text(value: Fraction, unit: int) -> str:
        return str(round(value * unit)) if in_units else f"{float(value):.5f}"

    red, green, blue, white = (
        f"({text(x, CHROMATICITY)},{text(y, CHROMATICITY)})" for x, y in primaries
    )
    low, high = (text(value, LUMINANCE) for value in luminance)
    return f"G{green}B{blue}R{red}WP{white}L({high},{low})"
