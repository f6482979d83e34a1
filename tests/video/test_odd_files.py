"""Every awkward file of the shared collection, with what is expected of it."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from tiny_files import upscale

from legato.errors import DecodeError
from legato.video.conservation import verify
from legato.video.images import encode_image, read_image
from legato.video.probe import probe
from legato.video.read import ReadReport, read_frames

SMALL = (160, 96)
NTSC = Fraction(30_000, 1001)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What reading a file gives."""

    frames: int
    size: tuple[int, int] = SMALL
    facts: dict = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    deep: bool = False
    repeated: int = 0
    first: Fraction = Fraction(0)


READABLE = {
    "04_vfr.mp4": Expected(frames=22, facts={"frame_rate": Fraction(30_000, 1729)}),
    "05_rotate90.mp4": Expected(frames=24, facts={"rotation_deg": 90}),
    "06_hevc_10bit.mp4": Expected(frames=24, deep=True, facts={"bit_depth": 10}),
    "08_h264_yuv444.mp4": Expected(frames=24, facts={"pixel_format": "yuv444p"}),
    "09_h264_gray.mp4": Expected(frames=24),
    "10_odd_35x51.webm": Expected(
        frames=24, size=(35, 51), facts={"sample_aspect": Fraction(13, 5)}
    ),
    "12_interlaced_mpeg2.mpg": Expected(
        frames=24,
        size=(320, 240),
        facts={"interlaced": "top"},
        first=Fraction(51_006, 90_000),
    ),
    "14_audio_aac.mp4": Expected(frames=24, facts={"frame_rate": NTSC}),
    "15_audio_opus.webm": Expected(frames=24, first=Fraction(7, 1000)),
    "17_subtitles.mkv": Expected(frames=24, first=Fraction(23, 1000)),
    "19_vp9_alpha.webm": Expected(frames=24, facts={"has_alpha": True}),
    "20_anim.gif": Expected(frames=8, facts={"has_alpha": False, "time_base": Fraction(1, 100)}),
    "21_single.png": Expected(frames=1, facts={"kind": "image"}),
    "23_png_sequence": Expected(frames=5, facts={"kind": "images"}),
    "24_png_sequence_gap": Expected(frames=6, facts={"kind": "images"}),
    "28_one_frame.mp4": Expected(frames=1),
    "29_two_frames.mp4": Expected(frames=2),
    "30_sar_2x1.mp4": Expected(frames=24, facts={"sample_aspect": Fraction(2)}),
    "35_bt601.mp4": Expected(frames=24),
    "36_prores422_10bit.mov": Expected(frames=8, deep=True, facts={"codec": "prores"}),
    "37_raw_stream.h264": Expected(
        frames=24, facts={"frame_rate": NTSC}, notices=("24 of 24 frames had no usable time",)
    ),
    "39_name with spaces ünï 日本.mp4": Expected(frames=24),
    "40_mkv_named.mp4": Expected(frames=24, facts={"container": "matroska,webm"}),
    "42_corrupt_middle.mp4": Expected(
        frames=24, repeated=1, notices=("1 of 24 frames could not be decoded", "are damaged")
    ),
    "43_av1_10bit.mp4": Expected(frames=8, deep=True, facts={"codec": "av1"}),
    "45_rgb48.png": Expected(frames=1, deep=True, facts={"bit_depth": 16}),
    "46_rgba.png": Expected(frames=1, facts={"has_alpha": True}),
    "48_real_corrupted.mp4": Expected(
        frames=50,
        size=(1280, 720),
        repeated=1,
        notices=("1 of 50 frames could not be decoded", "BT.709 assumed"),
    ),
    "51_real_vfr_screen.mp4": Expected(frames=63, size=(3026, 1386)),
    "53_real_hlg10.mp4": Expected(frames=9, size=(1920, 1080), deep=True),
}
REFUSED = {
    "01_truncated_no_moov.mp4": "moov",
    "03_zero_frames.mp4": "empty",
    "26_text_as_video.mp4": "text",
    "27_empty.mp4": "0 bytes",
    "32_audio_only.mp4": "only audio",
    "33_cover_art.m4a": "cover art",
}
LARGE = {"48_real_corrupted.mp4", "51_real_vfr_screen.mp4", "53_real_hlg10.mp4"}
ROUND_TRIPS = [
    *((name, ".mp4") for name in READABLE if name not in LARGE),
    *((name, ".mkv") for name in ("04_vfr.mp4", "05_rotate90.mp4", "17_subtitles.mkv")),
    ("10_odd_35x51.webm", ".webm"),
    ("15_audio_opus.webm", ".webm"),
    ("19_vp9_alpha.webm", ".webm"),
    ("20_anim.gif", ".gif"),
    ("23_png_sequence", ""),
    ("46_rgba.png", ".png"),
    ("36_prores422_10bit.mov", ".mov"),
]


@pytest.fixture(scope="module")
def odd(shared):
    return shared / "data" / "odd"


def test_the_table_names_every_file(odd):
    found = {path.name for path in odd.iterdir()} - {"MANIFEST.csv"}
    assert found == READABLE.keys() | REFUSED.keys()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in READABLE]
)
def test_reading(odd, name):
    expected, path = READABLE[name], odd / name
    facts, report = probe(path), ReadReport()
    num_frames = num_repeated = 0
    for frame in read_frames(path, facts=facts, report=report):
        if not num_frames:
            assert frame.time == expected.first
        num_frames += 1
        num_repeated += frame.repeated
        assert frame.pixels.shape == (expected.size[1], expected.size[0], 3)
        assert frame.pixels.dtype == (np.uint16 if expected.deep else np.uint8)
        assert (frame.alpha is not None) == facts.has_alpha
    assert (num_frames, num_repeated) == (expected.frames, expected.repeated)
    for key, value in expected.facts.items():
        assert getattr(facts, key) == value
    said = " ".join([*facts.notices, *report.notices(facts)])
    assert all(notice in said for notice in expected.notices)
    assert bool(said) == bool(expected.notices)


@pytest.mark.parametrize("name", REFUSED)
def test_refusing(odd, name):
    with pytest.raises(DecodeError, match=REFUSED[name]) as caught:
        probe(odd / name)
    assert caught.value.fix
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "suffix"), ROUND_TRIPS)
def test_upscaling_conserves_everything(odd, tmp_path, name, suffix):
    target = tmp_path / f"out{suffix}"
    upscale(odd / name, target, segment=7)
    result = verify(odd / name, target, scale=Fraction(2))
    assert result.differences == ()
    assert result.num_frames_target == READABLE[name].frames
    assert {p.name for p in tmp_path.iterdir()} == {target.name, f"{target.name}_work"}


@pytest.mark.slow
def test_hlg_tags_and_ten_bits_pass_through(odd, tmp_path):
    source = odd / "53_real_hlg10.mp4"
    upscale(source, tmp_path / "out.mp4", end=Fraction(1, 20))
    made = probe(tmp_path / "out.mp4")
    assert (made.bit_depth, made.colour) == (10, probe(source).colour)


def test_gray_stays_gray(odd):
    frame = next(read_frames(odd / "09_h264_gray.mp4"))
    assert np.ptp(frame.pixels.astype(int), axis=-1).max() <= 2


def test_tagged_bt601_is_not_decoded_as_bt709(odd):
    """Both files show the same picture; only the matrix they are coded with differs."""
    one = next(read_frames(odd / "35_bt601.mp4")).pixels.astype(int)
    other = next(read_frames(odd / "39_name with spaces ünï 日本.mp4")).pixels.astype(int)
    assert probe(odd / "35_bt601.mp4").colour.matrix == 6
    assert np.abs(one - other).mean() < 12


def chunk(name: bytes, data: bytes) -> bytes:
    return name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)


def animated_webp(num_frames: int) -> bytes:
    """The container of WebP with a still picture as each frame of its animation."""
    still = encode_image(np.full((4, 4, 3), 90, np.uint8), None, ".webp")[12:]
    size = (3).to_bytes(3, "little") * 2  # less one, as they are stored
    frame = bytes(6) + size + (40).to_bytes(3, "little") + b"\0" + still
    chunks = chunk(b"VP8X", b"\x02\0\0\0" + size) + chunk(b"ANIM", bytes(6))
    body = b"WEBP" + chunks + num_frames * chunk(b"ANMF", frame)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def test_an_animated_webp_is_called_what_it_is(tmp_path):
    path = tmp_path / "a.webp"
    path.write_bytes(animated_webp(3))
    for read in (probe, read_image):
        with pytest.raises(DecodeError, match=r"an animated WebP, .*; convert it to MP4, GIF or"):
            read(path)
    path.write_bytes(encode_image(np.full((4, 4, 3), 90, np.uint8), None, ".webp"))
    assert probe(path).kind == "image"
