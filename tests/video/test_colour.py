"""Samples to RGB and back, against the equations of ITU-T H.273 in float64."""

import numpy as np
import pytest
from av.video.frame import VideoFrame
from tiny_files import picture

from legato.video.colour import (
    ColourConverter,
    ColourTags,
    bit_depth_of,
    has_alpha,
    resolve_tags,
    tags_of,
    to_depth,
)

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)} | {
    4: (0.30, 0.11),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


def to_rgb_matrix(matrix):
    red, blue = WEIGHTS[matrix]
    green = 1 - red - blue
    return np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * (1 - blue) * blue / green, -2 * (1 - red) * red / green],
            [1, 2 * (1 - blue), 0],
        ]
    )


def decode_exactly(samples, tags, bits):
    unit = 2 ** (bits - 8)
    luma, chroma = samples[..., :1].astype(float), samples[..., 1:] - 128.0 * unit
    if tags.full_range:
        scaled = np.concatenate([luma, chroma], -1) / (2**bits - 1)
    else:
        scaled = np.concatenate([(luma - 16 * unit) / (219 * unit), chroma / (224 * unit)], -1)
    return np.clip(scaled @ to_rgb_matrix(tags.matrix).T, 0, 1)


def planar(samples, pixel_format):
    frame = VideoFrame(samples.shape[1], samples.shape[0], pixel_format)
    for index, plane in enumerate(frame.planes):
        rows = np.zeros((plane.height, plane.line_size // samples.itemsize), samples.dtype)
        rows[:, : plane.width] = samples[..., index]
        plane.update(rows.tobytes())
    return frame


def tags_for(matrix, full_range, *, primaries=1, transfer=1):
    return ColourTags(matrix=matrix, primaries=primaries, transfer=transfer, full_range=full_range)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize(("bits", "pixel_format"), [(8, "yuv444p"), (10, "yuv444p10le")])
def test_decoding_follows_the_matrix_and_range_to_within_a_code(
    matrix, full_range, bits, pixel_format
):
    low, high = (0, 255) if full_range else (16, 236)
    dtype = np.uint8 if bits == 8 else np.uint16
    samples = np.random.default_rng(0).integers(low, high, (40, 56, 3)) * 2 ** (bits - 8)
    tags = tags_for(matrix, full_range)
    pixels, alpha = ColourConverter().to_rgb(planar(samples.astype(dtype), pixel_format), tags)
    largest = np.iinfo(pixels.dtype).max
    error = np.abs(pixels / largest - decode_exactly(samples, tags, bits)) * (2**bits - 1)
    assert alpha is None
    assert pixels.dtype == dtype
    assert error.max() < 0.75


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("pixel_format", "codes"), [("yuv444p", 2), ("yuv444p10le", 8)])
def test_encoding_undoes_decoding(full_range, pixel_format, codes):
    deep = pixel_format != "yuv444p"
    original = picture(3, deep=deep)
    converter, tags = ColourConverter(), tags_for(1, full_range)
    coded = converter.from_rgb(original, None, pixel_format=pixel_format, tags=tags)
    pixels, _ = converter.to_rgb(coded, tags)
    worst = np.abs(pixels.astype(int) - original.astype(int)).max()
    assert worst <= (codes * 64 if deep else codes)


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv422p10le"])
def test_white_gray_and_black_stay_so_through_subsampling(matrix, pixel_format):
    converter, tags = ColourConverter(), tags_for(matrix, full_range=False)
    for level in (0, 128, 255):
        flat = np.full((16, 20, 3), level, np.uint8)
        coded = converter.from_rgb(flat, None, pixel_format=pixel_format, tags=tags)
        pixels, _ = converter.to_rgb(coded, tags)
        assert np.abs(to_depth(pixels, deep=False).astype(int) - level).max() <= 1


@pytest.mark.parametrize("pixel_format", ["gbrp10le", "gbrp12le", "gbrp16le", "bgr0", "rgb48le"])
def test_rgb_formats_keep_every_code_they_can_hold(pixel_format):
    deep = bit_depth_of(pixel_format) > 8
    bits = {"gbrp10le": 10, "gbrp12le": 12}.get(pixel_format, 16 if deep else 8)
    original = picture(1, deep=deep)
    converter, tags = ColourConverter(), tags_for(0, full_range=True)
    coded = converter.from_rgb(original, None, pixel_format=pixel_format, tags=tags)
    pixels, _ = converter.to_rgb(coded, tags)
    step = (65535 if deep else 255) / (2**bits - 1)
    assert np.abs(pixels.astype(int) - original.astype(int)).max() <= np.ceil(step / 2) * (step > 1)


@pytest.mark.parametrize("pixel_format", ["yuva420p", "yuva444p10le", "bgra", "gbrap16le", "ya8"])
def test_opacity_is_carried_apart(pixel_format):
    original = picture(2, channels=4)
    converter, tags = ColourConverter(), tags_for(1, full_range=False)
    if pixel_format == "ya8":
        coded = VideoFrame.from_ndarray(original, "rgba").reformat(format="ya8")
    else:
        coded = converter.from_rgb(
            original[..., :3], original[..., 3], pixel_format=pixel_format, tags=tags
        )
    _, alpha = converter.to_rgb(coded, tags)
    assert has_alpha(pixel_format)
    assert np.abs(to_depth(alpha, deep=False).astype(int) - original[..., 3].astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("width", "height", "matrix"), [(720, 576, 5), (720, 480, 6), (1280, 544, 1), (640, 720, 1)]
)
def test_an_unspecified_matrix_is_guessed_from_the_size_as_players_do(width, height, matrix):
    unknown = ColourTags(matrix=2, primaries=2, transfer=2, full_range=False)
    resolved = resolve_tags(unknown, width=width, height=height)
    assert (resolved.matrix, resolved.primaries) == (matrix, matrix)
    assert resolved.guessed


def test_hdr_tags_pass_through():
    hlg = ColourTags(matrix=9, primaries=9, transfer=18, full_range=False)
    assert resolve_tags(hlg, width=640, height=360) == hlg


@pytest.mark.parametrize(
    ("matrix", "transfer"), [(1, 1), (4, 6), (5, 6), (6, 6), (7, 7), (9, 14), (10, 14)]
)
def test_an_unspecified_transfer_is_that_of_the_matrix(matrix, transfer):
    known = ColourTags(matrix=matrix, primaries=2, transfer=2, full_range=False)
    resolved = resolve_tags(known, width=640, height=360)
    primaries = 9 if matrix == 10 else matrix
    assert resolved == tags_for(matrix, False, primaries=primaries, transfer=transfer)


def test_wide_primaries_tell_their_matrix_whatever_the_size():
    wide = ColourTags(matrix=2, primaries=9, transfer=16, full_range=False)
    for width, height in ((640, 360), (3840, 2160)):
        assert resolve_tags(wide, width=width, height=height).matrix == 9


def tagged(matrix, *, pixel_format="yuv420p", size=(640, 480)):
    frame = VideoFrame(*size, pixel_format)
    frame.colorspace = matrix
    return frame


def test_a_frame_knows_its_matrix_better_than_its_container_does():
    declared = tags_for(1, full_range=False)
    assert tags_of(tagged(5), declared).matrix == 5
    assert tags_of(tagged(2), declared).matrix == 1


def test_samples_of_luma_and_chroma_that_are_called_rgb_are_not_taken_for_it():
    declared = tags_for(2, full_range=False)
    found = tags_of(tagged(0), declared)
    assert (found.matrix, found.full_range, found.guessed) == (6, False, True)
    assert tags_of(tagged(2, pixel_format="rgb24"), declared).matrix == 0


def test_formats_of_full_range_are_of_full_range_whatever_is_declared():
    assert tags_of(tagged(5, pixel_format="yuvj420p"), tags_for(5, full_range=False)).full_range
    assert not tags_of(tagged(5), tags_for(5, full_range=False)).full_range
