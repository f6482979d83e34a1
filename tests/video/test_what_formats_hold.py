"""What a codec or an image format cannot keep is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from legato.errors import InputError
from legato.video.codecs import CodecOptions, holds_opacity, losses, require_still_fits
from legato.video.images import encode_image, read_image
from legato.video.probe import probe

PNG = CodecOptions(codec="png")


@pytest.fixture
def facts(tmp_path):
    """Of an image with opacity and 16 bits."""
    path = tmp_path / "a.png"
    grey = np.full((8, 8, 3), 30000, np.uint16)
    path.write_bytes(encode_image(grey, grey[..., 0], ".png"))
    found = probe(path)
    return replace(found, has_alpha=True, bit_depth=16)


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


@pytest.mark.parametrize("size", [(16_384, 8), (8, 16_384)])
def test_an_image_too_large_for_its_file_is_refused(size):
    with pytest.raises(InputError, match="16383 at the most"):
        require_still_fits(PNG, Path("a.webp"), size=size)
    for target in ("a.png", "a.jpg", "folder"):
        require_still_fits(PNG, Path(target), size=size)
