import os
from dataclasses import replace
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from clips import pixels_of, times_of, write_clip
from judged import truth_clip, write_images

import legato.evaluation.damage as damage_module
from legato.errors import InputError, ResourceError
from legato.evaluation.damage import DegradeOptions, degrade
from legato.evaluation.datasets import SEVERITIES, seed_of
from legato.evaluation.datasets import degrade as damaged
from legato.pipelines.lock import Lock
from legato.video.probe import probe
from legato.video.streams import join

S2 = DegradeOptions(severity="s2")


@pytest.fixture
def video(tmp_path):
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "a.mkv", truth_clip(), sound=False)
    return tmp_path / "in" / "a.mkv"


@pytest.mark.parametrize("name", ["small.mkv", "small.MKV"])
def test_a_video_gets_the_damage_of_its_name_and_keeps_its_times(video, tmp_path, name):
    (target,) = degrade(video, tmp_path / name, S2)
    expected = damaged(truth_clip(), SEVERITIES["s2"], np.random.default_rng(seed_of("a")))
    assert np.array_equal(pixels_of(target), expected)
    assert times_of(target) == times_of(video)


def test_a_clip_in_other_ticks_and_with_sound_keeps_its_times(tmp_path):
    write_clip(tmp_path / "a.avi", truth_clip(), sound=True)
    (target,) = degrade(tmp_path / "a.avi", tmp_path / "small.mkv", S2)
    assert len(probe(tmp_path / "a.avi").streams) == 2
    assert [s.type for s in probe(target).streams] == ["video"]
    wanted = times_of(tmp_path / "a.avi")
    assert times_of(target) == [Fraction(round(1000 * time), 1000) for time in wanted]


def test_a_video_keeps_the_shape_of_its_pixels(video, tmp_path):
    wide = replace(probe(video), sample_aspect=Fraction(4, 3))
    join([video], tmp_path / "wide.mkv", source=video, facts=wide)
    (target,) = degrade(tmp_path / "wide.mkv", tmp_path / "small.mkv", S2)
    assert probe(target).sample_aspect == Fraction(4, 3)


def test_a_name_that_is_no_text_is_a_name(video, tmp_path):
    source = video.rename(video.with_name(os.fsdecode(b"bad\xff.mkv")))
    (target,) = degrade(source, tmp_path / os.fsdecode(b"small\xff.mkv"), S2)
    assert len(pixels_of(target)) == len(truth_clip())


def test_what_cannot_be_decoded_is_told(tmp_path):
    write_images(tmp_path / "a", truth_clip())
    (tmp_path / "a" / "002.png").write_bytes(b"\x89PNG broken")
    told = []
    degrade(tmp_path / "a", tmp_path / "small", S2, on_notice=told.append)
    assert len(list((tmp_path / "small").iterdir())) == 4
    (notice,) = told
    assert "1 of 4 frames could not be decoded" in notice


def test_a_folder_keeps_names_and_kinds(video, tmp_path):
    write_images(tmp_path / "in" / "b", truth_clip())
    told = []
    degrade(tmp_path / "in", tmp_path / "out", S2, on_clip=told.append)
    assert told == ["a", "b"]
    assert (tmp_path / "out" / "a.mkv").is_file()
    names = sorted(path.name for path in (tmp_path / "out" / "b").iterdir())
    assert names == ["000.png", "001.png", "002.png", "003.png"]
    expected = damaged(truth_clip(), SEVERITIES["s2"], np.random.default_rng(seed_of("b")))
    assert np.array_equal(pixels_of(tmp_path / "out" / "b"), expected)


def test_a_folder_with_something_in_it_stays_as_it_is(video, tmp_path):
    write_images(tmp_path / "in" / "b", truth_clip())
    for full in (tmp_path / "photographs", tmp_path / "out" / "b"):
        full.mkdir(parents=True)
        (full / "keep.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        degrade(tmp_path / "in" / "b", tmp_path / "photographs", S2)
    with pytest.raises(InputError, match="is not empty"):
        degrade(tmp_path / "in", tmp_path / "out", S2)
    with pytest.raises(InputError, match="lies in the input folder"):
        degrade(tmp_path / "in" / "b", tmp_path / "in" / "b" / "out", S2)
    assert (tmp_path / "photographs" / "keep.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "out" / "b").iterdir()] == ["keep.txt"]


class StopError(Exception):
    """What ends a run between two clips, or within one."""


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """A folder of three clips of images, and that of a run that was killed in the second."""
    for name in ("a", "b", "c"):
        write_images(tmp_path / "in" / name, truth_clip())
    real = damage_module.join

    def stop_in_b(segments, target, **kwargs):
        if target.name == "b":
            raise StopError
        return real(segments, target, **kwargs)

    monkeypatch.setattr(damage_module, "join", stop_in_b)
    with pytest.raises(StopError):
        degrade(tmp_path / "in", tmp_path / "out", S2)
    monkeypatch.undo()
    return tmp_path / "in", tmp_path / "out"


def test_an_interrupted_run_goes_on_with_the_clip_that_was_in_work(interrupted, tmp_path):
    source, target = interrupted
    (target / "b").mkdir()  # as a kill leaves it while an earlier one is replaced
    (target / "b" / "000.png").write_bytes(b"half")
    marked = (target / "a" / "000.png").stat().st_mtime_ns
    told = []
    degrade(source, target, S2, on_clip=told.append)
    assert told == ["b", "c"]
    assert (target / "a" / "000.png").stat().st_mtime_ns == marked
    degrade(source, tmp_path / "afresh", S2)
    for name in ("a", "b", "c"):
        expected = pixels_of(tmp_path / "afresh" / name)
        assert np.array_equal(pixels_of(target / name), expected)
    assert sorted(path.name for path in target.iterdir()) == ["a", "b", "c"]


def test_a_clip_that_changed_meanwhile_is_damaged_anew(interrupted):
    source, target = interrupted
    (source / "a" / "003.png").unlink()
    degrade(source, target, S2)
    assert len(list((target / "a").iterdir())) == 3


def test_other_options_do_not_continue_an_interrupted_run(interrupted):
    source, target = interrupted
    with pytest.raises(InputError, match="--severity s1, was s2"):
        degrade(source, target, DegradeOptions(severity="s1"))


def test_two_runs_do_not_fill_one_folder(interrupted):
    source, target = interrupted
    before = sorted(target.iterdir())
    with Lock(target / damage_module.LOCK):
        with pytest.raises(ResourceError, match=r"out: another run.*works on it"):
            degrade(source, target, S2)
        assert sorted(target.iterdir()) == sorted([*before, target / damage_module.LOCK])
    degrade(source, target, S2)
    assert sorted(path.name for path in target.iterdir()) == ["a", "b", "c"]


def test_a_run_that_fails_at_its_first_clip_leaves_nothing(tmp_path):
    write_images(tmp_path / "in" / "a", np.zeros((2, 2, 2, 3), np.uint8))
    with pytest.raises(InputError):
        degrade(tmp_path / "in", tmp_path / "out", S2)
    assert not (tmp_path / "out").exists()


def test_it_is_repeatable_and_the_seed_changes_it(video, tmp_path):
    runs = [
        pixels_of(degrade(video, tmp_path / str(k), DegradeOptions(severity="s2", seed=s))[0])
        for k, s in enumerate((0, 0, 1))
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_the_severity_changes_it(video, tmp_path):
    runs = [
        pixels_of(degrade(video, tmp_path / s, DegradeOptions(severity=s))[0]) for s in SEVERITIES
    ]
    assert len({run.tobytes() for run in runs}) == 3


def test_every_severity_can_be_named():
    (field,) = [DegradeOptions.__annotations__["severity"]]
    assert list(get_args(field)) == list(SEVERITIES)


def test_the_input_is_never_overwritten(video):
    with pytest.raises(InputError, match="the input itself"):
        degrade(video.parent, video.parent, S2)


def test_a_folder_that_links_to_itself_is_refused(video, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="leads to itself"):
        degrade(video.parent, tmp_path / "loop", S2)


def test_lossy_containers_are_refused(video, tmp_path):
    with pytest.raises(InputError, match=r"ends in \.mkv"):
        degrade(video, tmp_path / "small.mp4", S2)


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed=-1"):
        DegradeOptions(severity="s1", seed=-1)
