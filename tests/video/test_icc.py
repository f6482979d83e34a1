"""Colour profiles of images reach their enlarged images, byte for byte, or their loss is told."""

import io

import numpy as np
import pytest
from tiny_files import doubled, picture, upscale

from legato.video.codecs import CodecOptions, choose_codec, losses
from legato.video.conservation import verify
from legato.video.icc import png_profile, with_profile
from legato.video.images import encode_image, read_image, read_profile
from legato.video.probe import probe


def profile(number, *, space=b"RGB ", size=600):
    """Bytes like a profile's, with the colour space where it stands in one."""
    noise = np.random.default_rng(number).integers(0, 256, size, np.uint8).tobytes()
    return noise[:16] + space + noise[20:]


def image_file(path, icc=None, *, index=0, deep=False, alpha=False):
    """Write a small image with a profile."""
    pixels = picture(index, channels=4, deep=deep)
    suffix = path.suffix
    image = encode_image(pixels[..., :3], pixels[..., 3] if alpha else None, suffix)
    path.write_bytes(with_profile(image, icc, suffix))
    return path


@pytest.mark.parametrize("size", [600, 65_519, 65_520, 200_000])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_profile_is_read_as_it_was_written(tmp_path, suffix, size):
    icc = profile(1, size=size)
    written = image_file(tmp_path / f"a{suffix}", icc)
    plain = image_file(tmp_path / f"b{suffix}")
    assert read_profile(written) == icc
    assert read_profile(plain) is None
    assert np.array_equal(read_image(written)[0], read_image(plain)[0])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_another_program_finds_the_profile(tmp_path, suffix):
    pillow = pytest.importorskip("PIL.Image")
    data = image_file(tmp_path / f"a{suffix}", profile(2, size=150_000)).read_bytes()
    with pillow.open(io.BytesIO(data)) as opened:
        opened.load()
        assert opened.info["icc_profile"] == profile(2, size=150_000)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_one_image_keeps_its_profile_opacity_and_depth(tmp_path, deep, alpha):
    source = image_file(tmp_path / "a.png", profile(3), deep=deep, alpha=alpha)
    upscale(source, tmp_path / "b.png")
    pixels, opacity = read_image(tmp_path / "b.png")
    before, opacity_before = read_image(source)
    assert read_profile(tmp_path / "b.png") == profile(3)
    assert np.array_equal(pixels, doubled(before))
    assert pixels.dtype == (np.uint16 if deep else np.uint8)
    assert (opacity is None) == (not alpha)
    assert not alpha or np.array_equal(opacity, doubled(opacity_before))
    assert verify(source, tmp_path / "b.png").notices == ()


@pytest.mark.parametrize(("before", "after"), [(".jpg", ".png"), (".png", ".jpeg")])
def test_a_profile_goes_from_one_kind_of_image_to_another(tmp_path, before, after):
    source, target = image_file(tmp_path / f"a{before}", profile(4)), tmp_path / f"b{after}"
    report = upscale(source, target)
    assert read_profile(target) == profile(4)
    assert verify(source, target).kept
    assert not any("profile" in notice for notice in report.notices)


def test_each_image_of_a_folder_keeps_its_own_profile(tmp_path):
    folder, icc = tmp_path / "in", [None, profile(5), profile(6)]
    folder.mkdir()
    for index, one in enumerate(icc):
        image_file(folder / f"{index}.png", one, index=index)
    upscale(folder, tmp_path / "out", segment=2)
    assert [read_profile(path) for path in sorted((tmp_path / "out").iterdir())] == icc
    assert verify(folder, tmp_path / "out").kept


def test_what_stands_in_for_a_lost_image_has_the_profile_of_its_pixels(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        image_file(folder / f"{index}.png", profile(index), index=index)
    (folder / "1.png").write_bytes(b"no image")
    upscale(folder, tmp_path / "out")
    found = [read_profile(path) for path in sorted((tmp_path / "out").iterdir())]
    assert found == [profile(0), profile(0), profile(2)]
    assert verify(folder, tmp_path / "out").kept


def test_verify_names_images_that_lost_their_profiles(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        image_file(folder / f"{index}.png", profile(index), index=index)
    upscale(folder, tmp_path / "out")
    image_file(tmp_path / "out" / "1.png", index=1)
    image_file(tmp_path / "out" / "2.png", profile(7), index=2)
    result = verify(folder, tmp_path / "out")
    assert "colour profiles: 2 of 3 lost (1.png, 2.png)" in result.differences


@pytest.mark.parametrize(
    ("space", "name"), [(b"RGB ", "b.webp"), (b"RGB ", "b.mp4"), (b"CMYK", "b.png")]
)
def test_a_profile_that_cannot_be_kept_is_told_of(tmp_path, space, name):
    source = image_file(tmp_path / "a.jpg", profile(8))
    source.write_bytes(source.read_bytes().replace(profile(8), profile(8, space=space)))
    facts, target = probe(source), tmp_path / name
    codec = choose_codec(target, CodecOptions(), facts.kind)
    said = losses(codec, facts, target, size=(8, 8))
    assert any("cannot hold this colour profile" in sentence for sentence in said)
    upscale(source, target)
    assert read_profile(target) is None
    result = verify(source, target)
    assert result.kept
    assert "colour profile: none in the output" in result.notices


@pytest.mark.parametrize("kept", [b"", b"ICC profile\0\0", b"ICC profile\0\0x\x9c"])
def test_a_png_whose_profile_is_damaged_has_none(tmp_path, kept):
    data = image_file(tmp_path / "a.png", profile(9)).read_bytes()
    assert png_profile(data) == profile(9)
    begin = data.index(b"ICC profile") + len(kept)
    assert png_profile(data[:begin] + bytes(50) + data[begin + 50 :]) is None
    assert png_profile(data[: begin + 50]) is None


def test_pictures_with_a_named_profile_are_freed_once(tmp_path):
    """PNG names its profile, and reading it through PyAV freed that name twice: a crash."""
    path = image_file(tmp_path / "a.png", profile(10))
    for _ in range(20):
        assert probe(path).icc_profile == profile(10)
        read_image(path)
