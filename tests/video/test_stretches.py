"""Recordings put behind one another: every stream follows on, and stays beside the picture."""

from fractions import Fraction

import av
import numpy as np
import pytest
from flash_and_beep import FRAMES, RATE, SAMPLES, heard, recording, seen
from tiny_files import make_video, upscale

from legato.video.conservation import verify
from legato.video.decode import nominal_ticks
from legato.video.probe import probe
from legato.video.read import read_frames
from legato.video.stretches import PictureClock


def behind_one_another(path, **settings):
    """A dark recording and one with a flash and a beep, joined byte by byte."""
    dark = recording(path.with_stem("dark"), has_flash=False, **settings)
    lit = recording(path.with_stem("lit"), **settings)
    path.write_bytes(dark.read_bytes() + lit.read_bytes())
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov", ".webm"])
def test_two_recordings_in_one_file_are_joined_with_sound_and_picture_together(tmp_path, suffix):
    source, target = behind_one_another(tmp_path / "a.ts"), tmp_path / f"out{suffix}"
    upscale(source, target, segment=60)
    assert verify(source, target, scale=Fraction(2)).differences == ()
    assert seen(target) == pytest.approx(seen(source), abs=0.002)
    assert abs(heard(target) - seen(target)) < 0.1


@pytest.mark.parametrize(("video", "sound"), [("mpeg2video", "mp2"), ("mpeg1video", "ac3")])
def test_a_program_stream_is_joined_too(tmp_path, video, sound):
    source = behind_one_another(tmp_path / "a.mpg", video=video, sound=sound)
    upscale(source, tmp_path / "out.mp4", segment=60)
    assert verify(source, tmp_path / "out.mp4").differences == ()
    assert abs(heard(tmp_path / "out.mp4") - seen(tmp_path / "out.mp4")) < 0.1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_sound_that_outlasts_its_recording_does_not_push_the_next_one_s_away(tmp_path, suffix):
    source = behind_one_another(tmp_path / "a.ts", longer=20)
    upscale(source, tmp_path / f"out{suffix}", segment=60)
    assert abs(heard(tmp_path / f"out{suffix}") - seen(tmp_path / f"out{suffix}")) < 0.1
    assert verify(source, tmp_path / f"out{suffix}").differences == ()


def test_a_range_of_the_second_recording_holds_its_sound(tmp_path):
    source, start = behind_one_another(tmp_path / "a.ts"), Fraction(5, 2)
    upscale(source, tmp_path / "out.mkv", start=start)
    assert verify(source, tmp_path / "out.mkv", start=start).differences == ()
    assert abs(heard(tmp_path / "out.mkv") - seen(tmp_path / "out.mkv")) < 0.1


@pytest.mark.parametrize("suffix", [".mov", ".avi", ".mkv"])
def test_sound_in_packets_shorter_than_a_tick_is_joined(tmp_path, suffix):
    source, block = tmp_path / "a.mkv", 16  # a third of Matroska's millisecond
    with av.open(str(source), "w") as container:
        pictures = container.add_stream("libx264", rate=RATE, width=64, height=48)
        sound = container.add_stream("pcm_s16le", rate=SAMPLES, layout="mono")
        pictures.pix_fmt = "yuv420p"
        for _ in range(10):
            container.mux(pictures.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(pictures.encode(None))
        for start in range(0, SAMPLES * 10 // RATE, block):
            frame = av.AudioFrame.from_ndarray(np.full((1, block), start, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLES, start, Fraction(1, SAMPLES)
            container.mux(sound.encode(frame))
    upscale(source, tmp_path / f"out{suffix}")
    assert verify(source, tmp_path / f"out{suffix}").differences == ()
    with av.open(str(tmp_path / f"out{suffix}")) as made, av.open(str(source)) as original:
        samples, expected = (
            np.concatenate([f.to_ndarray()[0] for f in c.decode(audio=0)]) for c in (made, original)
        )
    assert np.array_equal(samples, expected)


def test_each_of_several_recordings_follows_on_the_one_before(tmp_path):
    facts = probe(make_video(tmp_path / "a.mkv"))
    clock, times = PictureClock(facts), []
    for pts in (0, 1000, 2000, 0, 1500, 0, 500):  # milliseconds
        packet = av.Packet(1)
        packet.pts = packet.dts = pts
        clock.follow(packet)
        times.append(int(clock.seconds * 1000))
    step = nominal_ticks(facts)
    expected = [0, 1000, 2000, 2000 + step, 3500 + step, 3500 + 2 * step, 4000 + 2 * step]
    assert times == expected


def with_subtitles(path, moments):
    """A picture and DVB subtitles without text, at moments in milliseconds."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=RATE, width=64, height=48)
        pictures.pix_fmt = "yuv420p"
        text = container.add_mux_stream("dvb_subtitle")
        frames = [av.VideoFrame(64, 48, "yuv420p") for _ in range(FRAMES)]
        packets = [p for frame in [*frames, None] for p in pictures.encode(frame)]
        for moment in moments:
            packet = av.Packet(b"\x0f\x10\0\1\0\2\5\x08\x0f\x80\0\1\0\0")  # an empty page
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = moment
            packets.append(packet)
        container.mux(sorted(packets, key=lambda p: p.dts * p.time_base))
    return path


@pytest.mark.parametrize("moments", [(300, 1500), (1500,), (100,)])
def test_subtitles_move_with_the_picture_even_where_their_own_times_do_not_fall_back(
    tmp_path, moments
):
    source, target = tmp_path / "a.ts", tmp_path / "out.mkv"
    first = with_subtitles(tmp_path / "first.ts", [300]).read_bytes()
    second = with_subtitles(tmp_path / "second.ts", moments).read_bytes()
    source.write_bytes(first + second)
    upscale(source, target, segment=60)
    lead = next(read_frames(source)).time
    with av.open(str(target)) as container:
        times = [p.pts * p.time_base for p in container.demux(subtitles=0) if p.size]
    expected = [lead + Fraction(ms, 1000) for ms in (300, *(2000 + m for m in moments))]
    assert times == pytest.approx(expected, abs=0.002)
