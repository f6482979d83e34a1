"""Streams that a container holds only in another form, or not at all."""

import contextlib
import io
from fractions import Fraction

import av
import av.codec
import cv2
import numpy as np
import pytest
from tiny_files import STEADY, TICK, make_video, picture, upscale

from legato.video.codecs import FORMATS
from legato.video.conservation import verify
from legato.video.probe import probe
from legato.video.read import ReadOptions, ReadReport, read_frames
from legato.video.remux import MP4_FAMILY
from legato.video.tracks import SUFFIX_AUDIO, SUFFIX_TEXT, SUFFIX_VIDEO, plan_tracks


def with_sound(path, codec, *, pts=STEADY, start=0, coded="libx264"):
    """A video and one second or less of sound in the given codec."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(coded, rate=30, width=64, height=48)
        video.time_base = video.codec_context.time_base = TICK
        sound = container.add_stream(codec, rate=48_000)
        sound.codec_context.layout = "stereo"
        for index, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, TICK
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        tone = (np.sin(np.arange(19_200) / 20) * 8000).astype(np.int16)
        for begin in range(0, len(tone), 960):
            block = tone[begin : begin + 960].repeat(2)[None]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = 48_000, begin + start
            frame.time_base = Fraction(1, 48_000)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def heard(path):
    """The sound of a file as mono samples, and the time of the first."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48_000)
        blocks = [b.to_ndarray()[0] for f in frames for b in resampler.resample(f)]
        return np.concatenate(blocks), frames[0].pts * frames[0].time_base


@pytest.mark.parametrize(
    ("source_suffix", "codec", "target_suffix", "action"),
    [
        (".mkv", "pcm_s16le", ".mp4", "transcode"),
        (".mkv", "libopus", ".mp4", "copy"),
        (".mkv", "aac", ".mp4", "copy"),
        (".mp4", "aac", ".mkv", "copy"),
        (".mp4", "aac", ".webm", "transcode"),
        (".mkv", "pcm_s16le", ".mov", "copy"),
        (".mkv", "flac", ".avi", "transcode"),
        (".ts", "libmp3lame", ".ts", "copy"),
        (".avi", "adpcm_ms", ".mkv", "transcode"),
    ],
)
def test_sound_is_copied_or_coded_anew_and_stays_in_step(
    tmp_path, source_suffix, codec, target_suffix, action
):
    source = with_sound(tmp_path / f"a{source_suffix}", codec)
    target = tmp_path / f"out{target_suffix}"
    (track,) = plan_tracks(probe(source), target)
    assert track.action == action
    report = upscale(source, target)
    assert verify(source, target, scale=Fraction(2)).differences == ()
    assert bool(report.transcoded) == (action == "transcode")
    before, first_before = heard(source)
    after, first_after = heard(target)
    count = min(len(before), len(after), 12_000) - 4800
    shift = round((first_after - first_before) * 48_000)
    lags = range(-1300, 1301)
    middle = before[2400 : 2400 + count]
    similar = [
        float(middle @ after[2400 + lag : 2400 + lag + count]) if 2400 + lag >= 0 else -1.0
        for lag in lags
        if len(after[2400 + lag : 2400 + lag + count]) == count
    ]
    best = max(similar)
    assert best > 0.5 * float(middle @ middle)
    assert abs(shift) <= 2400
    assert abs(len(after) - len(before)) <= 4800


def taken_by(muxer):
    """The codecs that a muxer takes, as the probe names them."""
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        names = container.supported_codecs
    coders = ((name, mode) for name in names for mode in "rw")
    found = set()
    for name, mode in coders:
        with contextlib.suppress(av.codec.codec.UnknownCodecError):
            found.add(av.codec.Codec(name, mode).canonical_name)
    return found


@pytest.mark.parametrize("suffix", sorted({*SUFFIX_AUDIO} - {".ts"}))  # its muxer does not tell
def test_what_is_copied_into_a_container_its_muxer_takes(suffix):
    tables = (SUFFIX_AUDIO, SUFFIX_TEXT, SUFFIX_VIDEO)
    held = {codec for table in tables for codec in table.get(suffix, ())}
    assert held - taken_by(FORMATS[suffix][0]) == set()


@pytest.mark.parametrize("codec", ["libopus", "flac"])
@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_the_first_sound_is_heard_whole_in_matroska(tmp_path, codec, suffix):
    source, target = with_sound(tmp_path / "a.mkv", codec), tmp_path / f"out{suffix}"
    upscale(source, target)
    (before, first_before), (after, first_after) = heard(source), heard(target)
    assert abs(first_after - first_before) <= Fraction(1, 1000)
    begin = slice(0, 2400)  # 50 ms
    assert np.abs(after[begin]).mean() > 0.9 * np.abs(before[begin]).mean()


def test_sound_that_outlasts_the_picture_is_no_loss_where_one_header_tells_of_both(tmp_path):
    source = with_sound(tmp_path / "a.asf", "adpcm_ms", start=9600, coded="mpeg4")
    report = ReadReport()
    assert len(list(read_frames(source, report=report, options=ReadOptions(strict=True)))) == 12
    assert [n for n in report.notices(probe(source)) if "ends early" in n] == []


def test_sound_that_starts_later_than_the_picture_still_does(tmp_path):
    source = with_sound(tmp_path / "a.mkv", "flac", start=9600)
    upscale(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        packet = next(p for p in container.demux(audio=0) if p.size)
        assert float(packet.pts * packet.time_base) == pytest.approx(0.2, abs=0.002)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cover_art_is_kept_and_not_taken_for_the_video(tmp_path, suffix):
    source = tmp_path / "a.mp4"
    art = cv2.imencode(".png", picture(3, (400, 400)))[1].tobytes()
    plain = make_video(tmp_path / "plain.mp4")
    with av.open(str(plain)) as original, av.open(str(source), "w") as container:
        video = container.add_stream_from_template(original.streams.video[0], opaque=True)
        cover = container.add_mux_stream("png", width=400, height=400)
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in original.demux(video=0):
            if packet.size:
                packet.stream = video
                container.mux(packet)
        packet = av.Packet(art)
        packet.stream, packet.pts, packet.dts = cover, 0, 0
        packet.time_base = Fraction(1, 1000)
        packet.is_keyframe = True
        container.mux(packet)
    facts = probe(source)
    assert (facts.width, facts.height) == (64, 48)
    assert [s.is_cover_art for s in facts.streams] == [False, True]
    upscale(source, tmp_path / f"out{suffix}")
    made = probe(tmp_path / f"out{suffix}")
    assert (made.width, made.height) == (128, 96)
    assert any(s.is_cover_art or s.type == "attachment" for s in made.streams)
    assert verify(source, tmp_path / f"out{suffix}").kept


@pytest.mark.parametrize(
    ("source", "target"), [("a.mov", "b.mov"), ("a.mkv", "b.mp4"), ("a.mp4", "b.mkv")]
)
def test_the_pictures_own_tags_and_the_date_of_a_recording_are_kept(source, target, tmp_path):
    plain, date = make_video(tmp_path / "plain.mp4"), "2001-02-03T04:05:06.000000Z"
    with av.open(str(plain)) as read, av.open(str(tmp_path / source), "w") as written:
        written.metadata.update(creation_time=date, title="Holiday")
        stream = written.add_stream_from_template(read.streams.video[0], opaque=True)
        stream.metadata.update(language="jpn", BPS="12345")
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                written.mux(packet)
    report = upscale(tmp_path / source, tmp_path / target)
    assert report.notices == []
    assert verify(tmp_path / source, tmp_path / target).kept
    with av.open(str(tmp_path / target)) as made:
        assert made.metadata["creation_time"] == date
        kept = {key.lower(): value for key, value in made.streams.video[0].metadata.items()}
    assert kept["language"] == "jpn"
    assert "bps" not in kept


def test_what_cannot_be_held_is_named(tmp_path):
    source = make_video(tmp_path / "a.mkv", with_others=True)
    report = upscale(source, tmp_path / "frames")
    assert len(report.dropped) == 3
    assert all("cannot hold it" in notice for notice in report.notices)
    result = verify(source, tmp_path / "frames")
    assert result.kept
    assert len(result.notices) == 3


def with_cues(path, cues):
    """Two seconds of video, and text subtitles from and to the given milliseconds."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, width=64, height=48)
        video.time_base = video.codec_context.time_base = TICK
        text = container.add_stream("subrip")
        text.codec_context.subtitle_header = b""
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index * 5000, TICK
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for begin, end, line in cues:
            packet = av.Packet(line.encode())
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = begin
            packet.duration = end - begin
            container.mux(packet)
    return path


def told(path):
    """The subtitles of a file: first and last millisecond, and lines."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(subtitles=0) if p.pts is not None]
        texts = [bytes(p)[2:] if path.suffix in MP4_FAMILY else bytes(p) for p in packets]
        begins = [p.pts * p.time_base * 1000 for p in packets]
        ends = [(p.pts + (p.duration or 0)) * p.time_base * 1000 for p in packets]
    cues = zip(begins, ends, texts, strict=True)
    return [(begin, end, text.decode().split("\n")) for begin, end, text in cues if text]


OVERLAPPING = ((300, 1200, "first"), (300, 900, "same time"), (600, 1800, "overlap"))


@pytest.mark.parametrize("suffix", MP4_FAMILY)
def test_subtitles_that_overlap_are_shown_together_where_they_may_not(tmp_path, suffix):
    source, target = with_cues(tmp_path / "a.mkv", OVERLAPPING), tmp_path / f"out{suffix}"
    upscale(source, target)
    assert told(target) == [
        (300, 600, ["first", "same time"]),
        (600, 900, ["first", "same time", "overlap"]),
        (900, 1200, ["first", "overlap"]),
        (1200, 1800, ["overlap"]),
    ]
    assert verify(source, target, scale=Fraction(2)).kept


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_subtitles_that_overlap_stay_apart_where_they_may(tmp_path, suffix):
    source, target = with_cues(tmp_path / "a.mkv", OVERLAPPING), tmp_path / f"out{suffix}"
    upscale(source, target)
    assert told(target) == [(begin, end, [line]) for begin, end, line in OVERLAPPING]


def test_a_range_of_subtitles_that_overlap_begins_with_all_that_are_active(tmp_path):
    source, target = with_cues(tmp_path / "a.mkv", OVERLAPPING), tmp_path / "out.mp4"
    start, end = Fraction(1), Fraction(3, 2)
    upscale(source, target, start=start, end=end)
    assert told(target) == [(0, 200, ["first", "overlap"]), (200, 800, ["overlap"])]
    assert verify(source, target, start=start, end=end).kept


def test_subtitles_shown_for_no_time_are_told_where_they_are_lost(tmp_path):
    cues = ((300, 300, "no time"), (600, 900, "some time"))
    source = with_cues(tmp_path / "a.mkv", cues)
    report = upscale(source, tmp_path / "out.mp4")
    assert told(tmp_path / "out.mp4") == [(600, 900, ["some time"])]
    assert any("1 left out that would be shown for no time" in said for said in report.notices)
    assert not any("no time" in said for said in upscale(source, tmp_path / "out.mkv").notices)
