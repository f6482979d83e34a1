import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from clips import texture, write_clip

from legato.errors import InputError, ResourceError
from legato.pipelines import forecast, output
from legato.pipelines.batch import is_folder_of_videos, upscale_folder
from legato.pipelines.forecast import plan
from legato.pipelines.run_options import RunOptions


def test_a_plan_counts_and_measures(clip, options, tmp_path):
    found = plan(clip(cut=6), options=options())
    assert (found.frames, found.shots, found.segments) == (10, 2, 3)
    assert (found.size_in, found.size_out) == ((32, 24), (128, 96))
    assert found.frames_measured == 6  # those before the cut
    assert found.seconds == pytest.approx(10 * found.seconds_per_frame)
    assert 0 < found.memory_bytes < found.memory_available_bytes
    assert 0 < found.disk_bytes < found.disk_free_bytes
    assert found.tile is None


def test_a_plan_leaves_nothing_behind(clip, options, tmp_path):
    source = clip()
    plan(source, options=options())
    assert list(tmp_path.iterdir()) == [source]


def test_a_plan_tells_that_the_disk_has_no_room(clip, options, monkeypatch):
    assert not any("disk" in sentence for sentence in plan(clip(), options=options()).notices)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    told = plan(clip(), options=options()).notices
    assert any("of disk space needed" in sentence for sentence in told)


def test_memory_that_runs_out_while_measuring_is_said(clip, options, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(forecast, "to_model", fail)
    with pytest.raises(ResourceError, match=r"first frames: memory ran out.*--tile"):
        plan(clip(), options=options())


def test_a_plan_is_of_the_chosen_range(clip, options):
    assert plan(clip(), options=options(start="0.1", end="0.2")).frames == 3


def test_a_plan_refuses_what_the_job_would_refuse(clip, options, tmp_path):
    source = clip()
    with pytest.raises(InputError, match="both input and output"):
        plan(source, source, options())


@pytest.fixture
def folder(tmp_path):
    """A folder with a video, a damaged one, a text, and another video."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "a 2.mkv", texture(2), sound=False)
    write_clip(folder / "a 10.mkv", texture(3), sound=False)
    (folder / "a 3.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(50))
    (folder / "notes.txt").write_text("hello")
    return folder


def test_a_damaged_video_is_reported_and_the_others_are_made(folder, options, tmp_path):
    report = upscale_folder(folder, tmp_path / "out", options())
    assert [done.frames_out for done in report.done] == [2, 3]
    assert list(report.failed) == ["a 3.mp4"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".mkv")
    assert names == ["a 10.mkv", "a 2.mkv"]


def test_what_is_done_is_not_done_again(folder, options, tmp_path):
    upscale_folder(folder, tmp_path / "out", options())
    assert upscale_folder(folder, tmp_path / "out", options()).done == []
    moved = folder.rename(tmp_path / "moved")
    assert list(upscale_folder(moved, tmp_path / "out", options()).failed) == ["a 3.mp4"]
    folder = moved
    again = upscale_folder(folder, tmp_path / "out", options(), run=RunOptions(restart=True))
    assert len(again.done) == 2


def test_another_video_under_the_name_of_a_finished_one_is_not_taken_for_it(
    folder, options, tmp_path
):
    upscale_folder(folder, tmp_path / "out", options())
    write_clip(folder / "a 2.mkv", 255 - texture(2), sound=False)
    again = upscale_folder(folder, tmp_path / "out", options())
    assert sorted(again.failed) == ["a 2.mkv", "a 3.mp4"]
    assert "another source" in str(again.failed["a 2.mkv"])


def test_videos_of_a_model_that_changed_are_not_taken_for_finished(
    folder, options, tmp_path, tiny_model
):
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    upscale_folder(folder, tmp_path / "out", options(model=str(model)))
    values = json.loads((model / "legato.json").read_text())
    (model / "legato.json").write_text(json.dumps(values | {"window": 5}))
    again = upscale_folder(folder, tmp_path / "out", options(model=str(model)))
    assert "another model" in str(again.failed["a 2.mkv"])


def test_what_was_made_otherwise_counts_as_failed_and_stays(folder, options, tmp_path):
    upscale_folder(folder, tmp_path / "out", options())
    (tmp_path / "out" / "a 10.mkv").write_text("not a video")
    (tmp_path / "out" / "a 10.mkv.legato.json").unlink()
    made = (tmp_path / "out" / "a 2.mkv").read_bytes()
    again = upscale_folder(folder, tmp_path / "out", options(scale=2.0))
    assert again.done == []
    assert "--restart" in str(again.failed["a 2.mkv"])
    assert "--restart" in str(again.failed["a 10.mkv"])
    assert (tmp_path / "out" / "a 2.mkv").read_bytes() == made
    assert (tmp_path / "out" / "a 10.mkv").read_text() == "not a video"


def test_videos_that_would_share_an_output_are_refused(folder, options, tmp_path):
    (folder / "b.mpg").touch()
    (folder / "b.mp4").touch()
    with pytest.raises(InputError, match=r"b\.mp4"):
        upscale_folder(folder, tmp_path / "out", options())
    assert not (tmp_path / "out").exists()


def test_a_folder_of_both_kinds_is_refused(folder):
    assert is_folder_of_videos(folder)
    (folder / "cover.png").touch()
    with pytest.raises(InputError, match="3 videos and 1 images"):
        is_folder_of_videos(folder)
