"""Timecodes name frames as ST 12-1 does, and arrive at the output."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_files import upscale

from legato.video.conservation import verify
from legato.video.probe import probe
from legato.video.smpte import Timecode
from legato.video.tracks import plan_tracks

NTSC = Fraction(30_000, 1001)
RATES = [Fraction(24_000, 1001), Fraction(24), Fraction(25), NTSC, Fraction(50), 2 * NTSC]


@pytest.mark.parametrize("rate", RATES)
@given(data=st.data())
def test_a_number_and_its_label_say_the_same(rate, data):
    drops = data.draw(st.booleans()) and (rate / NTSC).denominator == 1
    number = data.draw(st.integers(0, 23 * 3600 * round(rate)))
    code = Timecode(number=number, rate=round(rate), drops=drops)
    assert Timecode.parse(str(code), rate) == code
    assert len(str(code)) == len("00:00:00:00")


@pytest.mark.parametrize(
    ("text", "rate", "number"),
    [
        ("00:00:59;29", NTSC, 1799),
        ("00:01:00;02", NTSC, 1800),  # the labels ;00 and ;01 are left out
        ("00:10:00;00", NTSC, 17_982),
        ("01:00:00;00", NTSC, 107_892),
        ("00:01:00;04", 2 * NTSC, 3600),
        ("00:01:00:00", NTSC, 1800),
        ("01:00:00:00", Fraction(25), 90_000),
        ("00:00:01:23", Fraction(24_000, 1001), 47),
    ],
)
def test_known_labels(text, rate, number):
    assert Timecode.parse(text, rate).number == number
    assert str(Timecode.parse(text, rate)) == text


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("", 25),
        ("01:00:00", 25),
        ("01:00:00:25", 25),
        ("24:00:00:00", 25),
        ("00:60:00:00", 25),
        ("00:00:60:00", 25),
        ("01:00:00;00", 25),  # drop-frame is for 30000/1001 alone
        ("01:00:00;00", 30),
        ("00:01:00;01", NTSC),  # left out
    ],
)
def test_what_names_no_frame(text, rate):
    assert Timecode.parse(text, Fraction(rate)) is None


@pytest.mark.parametrize("last", ["23:59:59:24", "23:59:59;29"])
def test_a_day_begins_anew(last):
    rate = NTSC if ";" in last else Fraction(25)
    assert str(Timecode.parse(last, rate).later(1)).replace(";", ":") == "00:00:00:00"


def filmed(path, timecode, rate=25, frames=6):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.metadata["timecode"] = timecode
        for k in range(frames):
            pixels = np.full((32, 32, 3), 20 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def source(tmp_path):
    return filmed(tmp_path / "in.mov", "09:59:59;28", NTSC)


def test_it_is_a_fact_and_its_track_no_stream(source, tmp_path):
    facts = probe(source)
    assert str(facts.timecode) == "09:59:59;28"
    assert [stream.type for stream in facts.streams] == ["video"]
    assert not plan_tracks(facts, tmp_path / "out.mp4")


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".m4v", ".mkv"])
def test_it_arrives(source, tmp_path, suffix):
    target = tmp_path / f"out{suffix}"
    report = upscale(source, target)
    assert str(probe(target).timecode) == "09:59:59;28"
    assert report.notices == report.dropped == []
    kept = verify(source, target)
    assert (kept.differences, kept.notices) == ((), ())


def test_a_range_begins_at_its_own_frame(source, tmp_path):
    target, start = tmp_path / "out.mov", 3 / NTSC
    upscale(source, target, start=start)
    assert str(probe(target).timecode) == "10:00:00;01"
    assert verify(source, target, start=start).differences == ()


def test_another_one_in_the_output_is_found(source, tmp_path):
    target = filmed(tmp_path / "out.mov", "09:59:59;29", NTSC)
    assert verify(source, target).differences == (
        "timecode: 09:59:59;28 expected, 09:59:59;29 found",
    )


@pytest.mark.parametrize("suffix", [".ts", ".webm"])
def test_a_file_that_cannot_hold_it_is_told(source, tmp_path, suffix):
    target, said = tmp_path / f"out{suffix}", f"timecode 09:59:59;28: {suffix} cannot hold it"
    assert said in upscale(source, target).notices
    kept = verify(source, target)
    assert kept.differences == ()
    assert said in kept.notices


def test_one_that_the_rate_cannot_have_is_left_out(tmp_path):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mov"
    filmed(source, "01:00:00:40", 25)
    assert probe(source).timecode is None
    upscale(source, target)
    assert probe(target).timecode is None
    assert verify(source, target).differences == ()
