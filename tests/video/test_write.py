"""What is written is what is read back; what fails leaves nothing."""

import errno
import os
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_files import make_video, picture

from legato.errors import InputError, ResourceError
from legato.video import codecs, write
from legato.video.codecs import (
    CODECS,
    CodecOptions,
    choose_codec,
    frames_ahead,
    losses,
    segment_suffix,
)
from legato.video.probe import probe
from legato.video.read import read_frames
from legato.video.segments import segment_packets
from legato.video.write import VideoWriter

VIDEO_CODECS = [name for name in CODECS if name not in ("png", "gif")]
UNEVEN = (51_006, 54_009, 54_010, 60_000)
BASE = Fraction(1, 90_000)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    path = make_video(tmp_path_factory.mktemp("source") / "a.mp4", tags=(6, 6, 6, 1))
    return replace(probe(path), time_base=BASE)


def write_all(path, facts, *, codec, pts=UNEVEN, size=(64, 48), deep=False):
    with VideoWriter(
        path, size=size, time_base=facts.time_base, options=CodecOptions(codec=codec), facts=facts
    ) as writer:
        for index, time in enumerate(pts):
            drawn = picture(index, size, channels=4, deep=deep)
            alpha = drawn[..., 3] if facts.has_alpha else None
            writer.write(np.ascontiguousarray(drawn[..., :3]), pts=time, alpha=alpha)
    return writer


@pytest.mark.parametrize("codec", VIDEO_CODECS)
@pytest.mark.parametrize("size", [(64, 48), (67, 65)])
def test_every_codec_keeps_count_times_size_and_colour(tmp_path, facts, codec, size):
    path = tmp_path / f"a{segment_suffix(CodecOptions(codec=codec), facts)}"
    write_all(path, facts, codec=codec, size=size)
    made, frames = probe(path), list(read_frames(path))
    assert [f.time for f in frames] == [t * BASE for t in UNEVEN]
    assert (made.width, made.height) == size
    if codec != "ffv1":
        assert (made.colour.matrix, made.colour.full_range) == (6, False)
    largest = np.iinfo(frames[0].pixels.dtype).max
    errors = [
        np.abs(f.pixels / largest - picture(i, size) / 255).mean() for i, f in enumerate(frames)
    ]
    assert max(errors) < 0.02


@pytest.mark.parametrize(("depth", "deep"), [(8, False), (16, True)])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_ffv1_is_lossless(tmp_path, facts, depth, deep, has_alpha):
    facts = replace(facts, bit_depth=depth, has_alpha=has_alpha)
    write_all(tmp_path / "a.mp4", facts, codec="ffv1", deep=deep)
    frames = list(read_frames(tmp_path / "a.mp4"))
    assert len(frames) == len(UNEVEN)
    for index, frame in enumerate(frames):
        drawn = picture(index, channels=4, deep=deep)
        assert np.array_equal(frame.pixels, drawn[..., :3])
        assert (frame.alpha is not None) == has_alpha
        assert not has_alpha or np.array_equal(frame.alpha, drawn[..., 3])


@pytest.mark.parametrize("codec", ["x264", "x265", "av1", "prores", "ffv1"])
def test_ten_bits_stay_ten_bits(tmp_path, facts, codec):
    facts = replace(facts, bit_depth=10)
    path = tmp_path / f"a{segment_suffix(CodecOptions(codec=codec), facts)}"
    write_all(path, facts, codec=codec, deep=True)
    assert probe(path).bit_depth == 10
    assert next(read_frames(path)).pixels.dtype == np.uint16


@pytest.mark.parametrize("codec", ["vp9", "prores", "ffv1"])
def test_codecs_that_hold_opacity_keep_it(tmp_path, facts, codec):
    facts = replace(facts, has_alpha=True)
    path = tmp_path / f"a{segment_suffix(CodecOptions(codec=codec), facts)}"
    writer = write_all(path, facts, codec=codec)
    frame = next(read_frames(path))
    expected = picture(0, channels=4)[..., 3] / 255
    assert np.abs(frame.alpha / np.iinfo(frame.alpha.dtype).max - expected).mean() < 0.02
    assert writer.notices == []
    ticks = [pts for pts, _ in segment_packets([path], facts)]
    assert ticks == list(UNEVEN)


@pytest.mark.parametrize("codec", ["x264", "x265", "av1"])
def test_codecs_that_hold_no_opacity_say_so(tmp_path, facts, codec):
    writer = write_all(tmp_path / "a.mp4", replace(facts, has_alpha=True), codec=codec)
    assert any("opacity" in notice for notice in writer.notices)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.integers(-10_000, 2**33),
    steps=st.lists(st.integers(1, 100_000), min_size=1, max_size=5),
    base=st.sampled_from([BASE, Fraction(1001, 30_000), Fraction(1, 1_200_000), Fraction(1, 25)]),
)
def test_a_segment_keeps_any_times_exactly(tmp_path, facts, first, steps, base):
    times = [first]
    for step in steps:
        times.append(times[-1] + step)
    facts = replace(facts, time_base=base)
    write_all(tmp_path / "a.mp4", facts, codec="ffv1", pts=times, size=(8, 8))
    assert [pts for pts, _ in segment_packets([tmp_path / "a.mp4"], facts)] == times


@pytest.mark.parametrize("codec", ["x264", "x265", "av1", "vp9"])
def test_a_segment_starts_with_a_keyframe_and_needs_no_reordering(tmp_path, facts, codec):
    write_all(tmp_path / "a.mp4", facts, codec=codec, pts=range(0, 30_000, 3000))
    packets = [p for _, p in segment_packets([tmp_path / "a.mp4"], facts)]
    assert packets[0].is_keyframe
    assert all(p.pts == p.dts for p in packets)
    assert all(a.pts < b.pts for a, b in pairwise(packets))


def test_png_folders_are_exact_and_named_by_time(tmp_path, facts):
    facts = replace(facts, has_alpha=True, bit_depth=16)
    write_all(tmp_path / "out", facts, codec="png", deep=True)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert [int(name.removesuffix(".png")) for name in names] == list(UNEVEN)
    frame = next(read_frames(tmp_path / "out"))
    assert np.array_equal(frame.pixels, picture(0, channels=4, deep=True)[..., :3])


def test_an_exception_leaves_no_file(tmp_path, facts):
    with pytest.raises(ValueError, match="times must increase"):
        write_all(tmp_path / "a.mp4", facts, codec="x264", pts=(5, 4))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_at_the_path_before_the_file_is_complete(tmp_path, facts):
    path = tmp_path / "a.mp4"
    with VideoWriter(
        path, size=(64, 48), time_base=BASE, options=CodecOptions(codec="x264"), facts=facts
    ) as writer:
        writer.write(picture(0), pts=0)
        assert not path.exists()
    assert path.exists()


def test_a_full_disk_is_a_resource_error_and_leaves_no_file(tmp_path, facts, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(write, "put_in_place", fail)
    with pytest.raises(ResourceError, match="disk is full"):
        write_all(tmp_path / "a.mp4", facts, codec="x264")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path, facts):
    with pytest.raises(InputError, match="no folder"):
        write_all(tmp_path / "nowhere" / "a.mp4", facts, codec="x264")


def test_times_must_increase_and_sizes_must_agree(tmp_path, facts):
    with VideoWriter(
        tmp_path / "a.mp4",
        size=(64, 48),
        time_base=BASE,
        options=CodecOptions(codec="x264"),
        facts=facts,
    ) as writer:
        writer.write(picture(0), pts=10)
        with pytest.raises(ValueError, match="times must increase"):
            writer.write(picture(1), pts=10)
        with pytest.raises(ValueError, match="frame of 32x48"):
            writer.write(picture(1, (32, 48)), pts=11)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "x264"),
        ("a.MKV", "x264"),
        ("a.webm", "vp9"),
        ("a.gif", "gif"),
        ("folder", "png"),
        ("a.png", "png"),
    ],
)
def test_the_name_decides_the_usual_codec(tmp_path, facts, name, codec):
    assert choose_codec(tmp_path / name, CodecOptions(), facts.kind).codec == codec


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.webm", "x264"),
        ("a.mp4", "prores"),
        ("a.xyz", "auto"),
        ("a.jpg", "auto"),
        ("-", "auto"),
        ("a%03d.png", "auto"),
        ("a%d.jpg", "auto"),
    ],
)
def test_what_a_container_cannot_hold_is_refused(tmp_path, facts, name, codec):
    with pytest.raises(InputError):
        choose_codec(tmp_path / name, CodecOptions(codec=codec), facts.kind)


def test_a_folder_named_as_a_picture_is_told(tmp_path, facts):
    codec, names = CodecOptions(codec="png"), ("a.png", "a", "there.png")
    (tmp_path / "there.png").mkdir()
    told = [losses(codec, facts, tmp_path / name, size=(32, 32)) for name in names]
    assert [len(found) for found in told] == [1, 0, 0]
    assert "a.png is a folder" in told[0][0]


@pytest.mark.parametrize("options", [{"crf": 90}, {"codec": "ffv1", "crf": 3}])
def test_senseless_options_are_refused(options):
    with pytest.raises(InputError):
        CodecOptions(**options)


def test_a_smaller_rate_factor_makes_a_larger_file(tmp_path, facts):
    sizes = []
    for crf in (10, 40):
        with VideoWriter(
            tmp_path / f"{crf}.mp4",
            size=(64, 48),
            time_base=BASE,
            options=CodecOptions(codec="x264", crf=crf),
            facts=facts,
        ) as writer:
            for index in range(5):
                writer.write(picture(index), pts=index * 3003)
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
    assert sizes[0] > sizes[1] * 1.3


@pytest.mark.parametrize(("codec", "usual"), [("x264", 20), ("x265", 20)])
def test_encoders_look_less_far_ahead_where_frames_are_large(
    tmp_path, facts, monkeypatch, codec, usual
):
    assert frames_ahead(codec, (3840, 2160)) == usual
    assert frames_ahead(codec, (12104, 5544)) == 8
    files = []
    for name in ("usual", "less"):
        write_all(tmp_path / f"{name}.mkv", facts, codec=codec)
        files.append((tmp_path / f"{name}.mkv").read_bytes())
        monkeypatch.setattr(codecs, "LOOKAHEAD_PIXELS", 7 * 64 * 48)
    for file, frames in zip(files, (usual, 7), strict=True):
        assert f"rc{'_' if codec == 'x264' else '-'}lookahead={frames} ".encode() in file
