"""Sound that a container plays without a break stays beside the picture, or it is said."""

from fractions import Fraction

import av
import numpy as np
import pytest
from flash_and_beep import heard, recording, seen
from test_stretches import behind_one_another
from tiny_files import upscale

from legato.video.conservation import verify
from legato.video.untimed_sound import UntimedCopy

LATE, BROKEN = ((0, 0.7),), ((0.3, 0.9),)


def samples_of(path):
    with av.open(str(path)) as container:
        return np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])


@pytest.mark.parametrize("missing", [LATE, BROKEN, (*LATE, (1.4, 1.8))])
@pytest.mark.parametrize(
    ("sound", "suffix"),
    [("pcm_s16le", ".avi"), ("pcm_s16le", ".mov"), ("pcm_u8", ".avi"), ("flac", ".avi")],
)
def test_silence_stands_where_there_is_no_sound(tmp_path, sound, suffix, missing):
    source = recording(tmp_path / "a.mkv", sound=sound, missing=missing)
    report = upscale(source, tmp_path / f"out{suffix}", segment=60)
    assert heard(tmp_path / f"out{suffix}") == pytest.approx(float(seen(source)), abs=0.03)
    assert verify(source, tmp_path / f"out{suffix}").differences == ()
    assert not any("out of step" in notice for notice in report.notices)


@pytest.mark.parametrize("suffix", [".avi", ".mov"])
@pytest.mark.parametrize("sound", ["pcm_s16le", "pcm_s24le"])
def test_plain_samples_stay_what_they_are(tmp_path, suffix, sound):
    source = recording(tmp_path / "a.mkv", sound=sound)
    upscale(source, tmp_path / f"out{suffix}", segment=60)
    expected = samples_of(source)
    if (sound, suffix) == ("pcm_s24le", ".avi"):  # which becomes MP3
        assert len(samples_of(tmp_path / "out.avi")) >= len(expected)
    else:
        assert np.array_equal(samples_of(tmp_path / f"out{suffix}"), expected)


@pytest.mark.parametrize("missing", [LATE, BROKEN])
def test_copied_sound_that_comes_out_of_step_is_said(tmp_path, missing):
    source = recording(tmp_path / "a.mkv", sound="ac3", missing=missing)
    report = upscale(source, tmp_path / "out.avi", segment=60)
    assert any("may be out of step" in n and "use .mkv" in n for n in report.notices)


@pytest.mark.parametrize(
    ("name", "video", "sound"), [("a.ts", "libx264", "aac"), ("a.mpg", "mpeg2video", "mp2")]
)
def test_a_file_that_does_not_begin_at_0_is_whole_in_avi(tmp_path, name, video, sound):
    source = recording(tmp_path / name, video=video, sound=sound)
    report = upscale(source, tmp_path / "out.avi", segment=60)
    assert verify(source, tmp_path / "out.avi").differences == ()
    assert not any("out of step" in notice for notice in report.notices)
    assert abs(heard(tmp_path / "out.avi") - seen(tmp_path / "out.avi")) < 0.1


def test_recordings_whose_sound_overlaps_stay_in_step(tmp_path):
    source = behind_one_another(tmp_path / "a.ts", longer=20)
    upscale(source, tmp_path / "out.avi", segment=60)
    assert abs(heard(tmp_path / "out.avi") - seen(tmp_path / "out.avi")) < 0.1


def test_a_range_begins_with_its_own_silence(tmp_path):
    source, start = recording(tmp_path / "a.mkv", sound="pcm_s16le", missing=LATE), Fraction(2, 5)
    upscale(source, tmp_path / "out.avi", start=start, segment=60)
    assert heard(tmp_path / "out.avi") == pytest.approx(float(seen(source) - start), abs=0.03)


@pytest.mark.parametrize(
    ("tenths", "worst"), [((0, 1, 2), 0), ((0, 2, 3), 0), ((0, 3, 4), 0.2), ((0, 0, 0), 0.2)]
)
def test_sound_may_be_a_tenth_of_a_second_early_or_late(tenths, worst):
    copy = UntimedCopy(label="sound", begin=Fraction(0))
    for time in tenths:
        packet = av.Packet(1)
        packet.pts, packet.duration, packet.time_base = time, 1, Fraction(1, 10)
        assert list(copy.packets(packet)) == [packet]
    said = f"sound: may be out of step by up to {worst:.2f} s, as .avi holds no times for it"
    assert copy.notices(".avi") == ([f"{said}; use .mkv"] if worst else [])
