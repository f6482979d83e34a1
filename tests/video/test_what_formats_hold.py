"""What a codec or an image format cannot keep is named."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import pytest

from legato.errors import InputError
from legato.video.codecs import CODECS, CodecOptions, holds_opacity, losses, require_size
from legato.video.images import encode_image, read_image
from legato.video.probe import probe
from legato.video.write import VideoWriter

PNG = CodecOptions(codec="png")


@pytest.fixture
def facts(tmp_path):
    """Of an image with opacity and 16 bits."""
    path = tmp_path / "a.png"
    grey = np.full((8, 8, 3), 30000, np.uint16)
    path.write_bytes(encode_image(grey, grey[..., 0], ".png"))
    found = probe(path)
    return replace(found, has_alpha=True, bit_depth=16)


def plain(facts):
    return replace(facts, has_alpha=False, bit_depth=8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_a_format_that_cannot_hold_an_image_says_so(facts, suffix, tmp_path):
    target = tmp_path / f"b{suffix}"
    said = " ".join(losses(PNG, facts, target, size=(8, 8)))
    pixels = np.full((8, 8, 3), 30000, np.uint16)
    target.write_bytes(encode_image(pixels, pixels[..., 0] // 2, suffix))
    read, alpha = read_image(target)
    assert ("opacity" in said) == (alpha is None)
    assert (alpha is not None) == holds_opacity(PNG, target)
    assert ("8 of the 16 bits" in said) == (read.dtype == np.uint8)


def test_a_folder_of_png_keeps_all(facts):
    assert losses(PNG, facts, Path("folder"), size=(8, 8)) == []


@pytest.mark.parametrize(
    ("codec", "largest", "others"),
    [
        ("x264", (16_384, 16_384), "x265, vp9, prores, ffv1, png"),
        ("av1", (16_384, 8_704), "x264, x265, vp9, prores, ffv1, png"),
        ("ffv1", (65_535, 65_535), "png"),
    ],
)
def test_frames_too_large_for_a_codec_are_refused(codec, largest, others):
    options, (width, height) = CodecOptions(codec=codec), largest
    require_size(options, Path("a.mkv"), size=largest)
    with pytest.raises(InputError, match=f"{codec} holds {width}x{height} at the most"):
        require_size(options, Path("a.mkv"), size=(width + 2, 64))
    with pytest.raises(InputError, match=f"make them smaller, or use {others}$"):
        require_size(options, Path("a.mkv"), size=(64, height + 2))


@pytest.mark.parametrize("codec", ["x264", "av1"])
def test_the_largest_frames_are_those_that_the_encoder_takes(codec, facts, tmp_path):
    options = CodecOptions(codec=codec)
    width, height = CODECS[codec].largest
    for size, larger in (((width, 64), (width + 2, 64)), ((64, height), (64, height + 2))):
        written = {"time_base": Fraction(1, 25), "options": options, "facts": plain(facts)}
        with VideoWriter(tmp_path / "a.mkv", size=size, **written) as writer:
            writer.write(np.zeros((*size[::-1], 3), np.uint8), pts=0)
        assert (probe(tmp_path / "a.mkv").width, probe(tmp_path / "a.mkv").height) == size
        context = av.CodecContext.create(CODECS[codec].encoder, "w")
        context.width, context.height = larger
        context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
        with pytest.raises(av.error.FFmpegError):
            context.open()


@pytest.mark.parametrize("size", [(16_384, 8), (8, 16_384)])
def test_an_image_too_large_for_its_file_is_refused(size):
    with pytest.raises(InputError, match="16383 at the most"):
        require_size(PNG, Path("a.webp"), size=size)
    for target in ("a.png", "a.jpg", "folder"):
        require_size(PNG, Path(target), size=size)
