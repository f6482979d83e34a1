"""Joining: nothing of the source is lost, or it is said."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from flash_and_beep import recording
from tiny_files import STEADY, TICK, doubled, make_video, picture, upscale

from legato.errors import InputError
from legato.video.conservation import verify
from legato.video.probe import probe
from legato.video.read import read_frames
from legato.video.streams import join

LONG = tuple(i * 1001 for i in range(24))
UNEVEN = (7, 1001, 1502, 9000, 9041, 20_000, 20_500, 31_000)


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A file with sound, subtitles, chapters, an attachment, a title, a turn and an aspect."""
    path = tmp_path_factory.mktemp("rich") / "rich.mkv"
    return make_video(path, pts=LONG, with_others=True, rotation=90, aspect=Fraction(4, 3))


def kinds(path):
    with av.open(str(path)) as container:
        return [(s.type, s.metadata.get("language")) for s in container.streams]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_everything_a_container_can_hold_is_kept(tmp_path, rich, suffix):
    target = tmp_path / f"out{suffix}"
    report = upscale(rich, target)
    assert verify(rich, target, scale=Fraction(2)).differences == ()
    assert [kind for kind, _ in kinds(target)][:3] == ["video", "audio", "subtitle"]
    assert {language for _, language in kinds(target)} >= {
        "eng",
        "ger" if suffix == ".mov" else "deu",
    }
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "A title"
        chapters = container.chapters()
        starts = [c["start"] * c["time_base"] for c in chapters]
        assert starts == [0, Fraction(1, 5)]
        assert [c["metadata"]["title"] for c in chapters] == ["Chapter 0", "Chapter 1"]
    if suffix == ".mkv":
        with av.open(str(target)) as container:
            (attached,) = (s for s in container.streams if s.type == "attachment")
            assert (attached.name, attached.data) == ("font.ttf", b"not a font")
        assert report.dropped == report.transcoded == []
    else:
        assert any("attachment" in notice for notice in report.notices)


def test_copied_sound_is_bit_identical(tmp_path, rich):
    upscale(rich, tmp_path / "out.mkv")

    def sound(path):
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(audio=0) if p.size]

    assert sound(tmp_path / "out.mkv") == sound(rich)


def test_sound_coded_anew_lasts_as_long_and_is_named_in_a_notice(tmp_path, rich):
    report = upscale(rich, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        samples = sum(f.samples for f in container.decode(audio=0))
        assert container.streams.audio[0].codec_context.name == "opus"
        assert samples / 48_000 == pytest.approx(LONG[-1] / 30_000, abs=0.1)
    assert any("coded anew as libopus" in notice for notice in report.notices)
    assert any("coded anew as webvtt" in notice for notice in report.notices)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_subtitles_keep_their_words_and_times_in_any_container(tmp_path, rich, suffix):
    target = tmp_path / f"out{suffix}"
    upscale(rich, target)
    with av.open(str(target)) as container:
        stream = container.streams.subtitles[0]
        packets = [p for p in container.demux(stream) if p.size > 2]
        (packet,) = packets
        assert "Grüße".encode() in bytes(packet)
        assert packet.pts * packet.time_base == Fraction(1, 10)
        assert packet.duration * packet.time_base == Fraction(1, 5)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts"])
@pytest.mark.parametrize("pts", [STEADY, UNEVEN])
def test_frame_times_are_the_source_s_after_rounding(tmp_path, suffix, pts):
    source = make_video(tmp_path / "a.nut", pts=pts, options={"bf": "0"})
    target = tmp_path / f"out{suffix}"
    upscale(source, target, segment=3)
    base = probe(target).time_base
    expected = [round(t * TICK / base) for t in pts]
    assert [f.pts for f in read_frames(target)] == expected
    assert verify(source, target).kept


def test_times_closer_than_a_tick_stay_apart(tmp_path):
    source = make_video(tmp_path / "a.nut", pts=(0, 3, 6, 1001, 2002), options={"bf": "0"})
    upscale(source, tmp_path / "out.mkv")
    assert [f.pts for f in read_frames(tmp_path / "out.mkv")] == [0, 1, 2, 33, 67]


@pytest.mark.parametrize("segment", [1, 5, 100])
def test_joined_pictures_are_those_of_the_segments(tmp_path, segment):
    source = make_video(tmp_path / "a.mkv", codec="ffv1", pixel_format="bgr0")
    upscale(source, tmp_path / "out.mkv", codec="ffv1", segment=segment)
    frames = list(read_frames(tmp_path / "out.mkv"))
    assert len(frames) == len(STEADY)
    for index, frame in enumerate(frames):
        assert np.array_equal(frame.pixels, doubled(picture(index)))


@pytest.mark.parametrize("codec", ["x264", "x265", "av1", "vp9", "prores", "ffv1"])
def test_segments_of_every_codec_join_and_decode(tmp_path, rich, codec):
    upscale(rich, tmp_path / "out.mkv", codec=codec, segment=7)
    frames = list(read_frames(tmp_path / "out.mkv"))
    assert len(frames) == len(LONG)
    for index, frame in enumerate(frames):
        largest = np.iinfo(frame.pixels.dtype).max
        error = np.abs(frame.pixels / largest - doubled(picture(index)) / 255).mean()
        assert error < 0.05


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_range_cuts_every_stream_and_starts_at_zero(tmp_path, rich, suffix):
    target = tmp_path / f"out{suffix}"
    start, end = Fraction(1, 4), Fraction(3, 5)
    upscale(rich, target, start=start, end=end)
    kept = [t * TICK for t in LONG if start <= round(t * TICK, 3) < end]
    frames = list(read_frames(target))
    assert frames[0].pts == 0
    assert len(frames) == len(kept)
    assert verify(rich, target, start=start, end=end).differences == ()
    with av.open(str(target)) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        first, last = packets[0], packets[-1]
        one = first.duration * first.time_base
        assert 0 <= first.pts * first.time_base <= one
        assert abs((last.pts + last.duration) * last.time_base - (end - kept[0])) <= one
        (chapter,) = container.chapters()
        assert chapter["metadata"]["title"] == "Chapter 1"


def test_opacity_survives_in_webm(tmp_path):
    source = make_video(
        tmp_path / "a.webm",
        codec="libvpx-vp9",
        pixel_format="yuva420p",
        options={"auto-alt-ref": "0"},
        pts=[i * 33 for i in range(6)],
        time_base=Fraction(1, 1000),
    )
    report = upscale(source, tmp_path / "out.webm")
    made = list(read_frames(tmp_path / "out.webm"))
    for before, after in zip(read_frames(source), made, strict=True):
        assert np.abs(doubled(before.alpha).astype(int) - after.alpha.astype(int)).mean() < 4
    assert not any("opacity" in notice for notice in report.notices)


def test_a_gif_stays_a_gif(tmp_path):
    source = make_video(
        tmp_path / "a.gif",
        codec="gif",
        pixel_format="rgb8",
        pts=(0, 10, 15, 40),
        time_base=Fraction(1, 100),
    )
    upscale(source, tmp_path / "out.gif")
    assert verify(source, tmp_path / "out.gif", scale=Fraction(2)).kept
    for before, after in zip(read_frames(source), read_frames(tmp_path / "out.gif"), strict=True):
        assert np.abs(doubled(before.pixels).astype(int) - after.pixels.astype(int)).mean() < 8


@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_a_turned_video_is_shown_upright_from_a_folder_too(tmp_path, suffix):
    source = make_video(tmp_path / "a.mp4", rotation=90, size=(64, 32), pts=STEADY[:3])
    target = tmp_path / f"out{suffix}"
    upscale(source, target)
    facts = probe(target)
    turned = (facts.width, facts.height, facts.rotation_deg) == (128, 64, 90)
    baked = (facts.width, facts.height, facts.rotation_deg) == (64, 128, 0)
    assert turned if suffix else baked
    assert verify(source, target, scale=Fraction(2)).kept


@pytest.mark.parametrize("name", ["b.png", "b.jpg", "b.tif", "b.webp"])
def test_one_image_becomes_one_image(tmp_path, name):
    folder = tmp_path / "in"
    video = make_video(tmp_path / "a.mp4", pts=STEADY[:1])
    upscale(video, folder)
    source = next(folder.iterdir())
    upscale(source, tmp_path / name)
    facts = probe(tmp_path / name)
    assert (facts.kind, facts.width, facts.height) == ("image", 256, 192)


def test_a_folder_of_images_keeps_its_names(tmp_path):
    upscale(make_video(tmp_path / "a.mp4", pts=STEADY[:3]), tmp_path / "first")
    for number, file in enumerate(sorted((tmp_path / "first").iterdir())):
        file.rename(file.with_name(f"shot{number * 5}.png"))
    upscale(tmp_path / "first", tmp_path / "second")
    names = sorted(p.name for p in (tmp_path / "second").iterdir())
    assert names == ["shot0.png", "shot10.png", "shot5.png"]


def test_segments_of_different_settings_are_refused_and_leave_no_file(tmp_path):
    source = make_video(tmp_path / "a.mp4")
    facts = probe(source)
    upscale(source, tmp_path / "one.mp4", segment=100)
    upscale(source, tmp_path / "two.mp4", codec="x265", segment=100)
    segments = [next((tmp_path / f"{n}.mp4_work").iterdir()) for n in ("one", "two")]
    with pytest.raises(InputError, match="other settings"):
        join(segments, tmp_path / "out.mp4", source=source, facts=facts)
    assert not (tmp_path / "out.mp4").exists()
    assert not [p for p in tmp_path.iterdir() if ".part" in p.name]


def test_an_uneven_rate_in_avi_is_said(tmp_path):
    source = make_video(tmp_path / "a.mp4", pts=UNEVEN)
    report = upscale(source, tmp_path / "out.avi")
    assert any("even rate" in notice for notice in report.notices)
    assert len(list(read_frames(tmp_path / "out.avi"))) == len(UNEVEN)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda facts, frames: frames[:-1], "frames"),
        (lambda facts, frames: [replace(f, pts=f.pts + 500) for f in frames], "times"),
        (lambda facts, frames: [replace(f, pixels=f.pixels[:-2]) for f in frames], "size"),
    ],
)
def test_verify_names_what_was_lost(tmp_path, change, word):
    from legato.video.codecs import CodecOptions
    from legato.video.write import VideoWriter

    source = make_video(tmp_path / "a.mp4")
    facts = probe(source)
    frames = change(facts, list(read_frames(source)))
    height, width = frames[0].pixels.shape[:2]
    with VideoWriter(
        tmp_path / "b.mp4",
        size=(width, height),
        time_base=facts.time_base,
        options=CodecOptions(codec="x264"),
        facts=facts,
    ) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame.pixels), pts=frame.pts)
    result = verify(source, tmp_path / "b.mp4", scale=Fraction(1))
    assert not result.kept
    assert result.differences[0].startswith(word)


def test_verify_names_a_lost_stream_and_a_lost_turn(tmp_path, rich):
    bare = make_video(tmp_path / "bare.mkv", pts=LONG)
    found = " ".join(verify(rich, bare).differences)
    assert "audio streams: 1 expected, 0 found" in found
    assert "subtitle streams" in found
    assert "rotation" in found
    assert "sample aspect" in found


@pytest.mark.parametrize("missing", [(0, 0.3), (1.7, 9)])
def test_verify_names_sound_that_begins_late_or_ends_early(tmp_path, missing):
    whole = recording(tmp_path / "whole.mkv", sound="flac")
    part = recording(tmp_path / "part.mkv", sound="flac", missing=(missing,))
    assert verify(whole, whole).kept
    (found,) = verify(whole, part).differences
    assert found.startswith("sound 0: 0.000 to 2.0")


def test_verify_names_another_meaning_of_the_colours(tmp_path):
    pq, hlg = (
        make_video(tmp_path / f"{transfer}.mp4", pts=STEADY[:2], tags=(9, 9, transfer, 1))
        for transfer in (16, 18)
    )
    assert verify(pq, hlg).differences == ("colour primaries/transfer: 9/16 in, 9/18 out",)


def test_verify_names_a_frame_that_is_a_tick_too_late(tmp_path):
    source = make_video(tmp_path / "a.mp4")
    late = (*STEADY[:3], STEADY[3] + 1, *STEADY[4:])
    (found,) = verify(source, make_video(tmp_path / "b.mp4", pts=late)).differences
    assert found.startswith(f"times: 1 of {len(STEADY)} differ (frame 3 at 0.1001")


def test_verify_says_that_a_deep_picture_became_shallow(tmp_path):
    deep, shallow = (
        make_video(tmp_path / f"{name}.mkv", pts=STEADY[:2], codec="ffv1", pixel_format=name)
        for name in ("yuv420p10le", "yuv420p")
    )
    assert verify(deep, shallow).notices == ("depth: 10 bits in, 8 out",)
    assert verify(shallow, deep).notices == ()


def test_verify_lists_what_a_format_cannot_hold(tmp_path, rich):
    upscale(rich, tmp_path / "out.gif")
    upscale(rich, tmp_path / "out.avi")
    silent = verify(rich, tmp_path / "out.gif")
    unturned = verify(rich, tmp_path / "out.avi")
    assert (silent.differences, unturned.differences) == ((), ())
    assert {"audio", "subtitle"} <= {notice.split()[0] for notice in silent.notices}
    assert "turn by 90 degrees: .avi cannot hold it" in unturned.notices


@pytest.mark.parametrize(("size", "is_alike"), [((97, 302), True), ((95, 302), False)])
def test_verify_allows_one_pixel_of_either_side(tmp_path, size, is_alike):
    source = make_video(tmp_path / "tall.mkv", size=(64, 200), pts=STEADY[:2])
    target = make_video(
        tmp_path / "out.mkv", size=size, pts=STEADY[:2], codec="ffv1", pixel_format="bgr0"
    )
    assert (verify(source, target).differences == ()) == is_alike


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("defaults", [(True, True), (True, False), (False, True)])
def test_the_upscaled_stream_is_the_one_that_players_show(tmp_path, suffix, defaults):
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    sizes = ((16, 16), (256, 192))
    with av.open(str(source), "w") as container:
        for size, is_default in zip(sizes, defaults, strict=True):
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = Disposition.default if is_default else Disposition(0)
        for stream in container.streams.video:
            frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
            container.mux([*stream.encode(frame), *stream.encode(None)])
    facts = probe(source)
    upscale(source, target)
    made = probe(target)
    assert (made.width, made.height) == (2 * facts.width, 2 * facts.height)
    assert [s.type for s in made.streams] == ["video", "video"]
