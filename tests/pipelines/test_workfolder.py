import errno
import json
import os
from pathlib import Path

import pytest

from legato.errors import InputError
from legato.pipelines.workfolder import WorkFolder, working, write_json


def test_leftovers_of_a_killed_run_go_and_finished_work_stays(tmp_path):
    folder = WorkFolder(tmp_path / "out.mp4")
    folder.create()
    kept = [folder.plan, folder.lock, folder.segment(0), folder.state(0)]
    for path in [*kept, folder.path / ".segment_000001.77.part.mkv", folder.path / "joined.mp4"]:
        path.touch()
    (folder.path / "a_folder").mkdir()
    folder.drop_leftovers()
    assert sorted(folder.path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "日" * 83 + ".mp4"])
def test_the_longest_names_have_a_work_folder(tmp_path, name):
    folder = WorkFolder(tmp_path / name)
    folder.create()
    assert folder.path.is_dir()


def test_a_missing_parent_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        WorkFolder(tmp_path / "nowhere" / "out.mp4").create()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_an_unwritable_parent_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            WorkFolder(tmp_path / "out.mp4").create()
    finally:
        tmp_path.chmod(0o700)


def test_a_parent_on_a_disk_that_takes_no_writes_is_named(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"out\.mp4.*cannot be written \(Read-only file system\)"):
        WorkFolder(tmp_path / "out.mp4").create()


def test_a_file_in_the_place_of_the_work_folder_is_named(tmp_path):
    (tmp_path / ".out.mp4.legato").touch()
    with pytest.raises(InputError, match=r"out\.mp4\.legato.*cannot be written \(File exists\)"):
        WorkFolder(tmp_path / "out.mp4").create()


def test_a_failed_write_leaves_the_old_json(tmp_path):
    path = tmp_path / "plan.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_an_unused_folder_is_removed_and_a_used_one_is_not(tmp_path):
    folder = WorkFolder(tmp_path / "out.mp4")
    folder.create()
    folder.plan.touch()
    folder.segment(0).touch()
    folder.remove_if_unused()
    assert folder.path.is_dir()
    folder.segment(0).unlink()
    folder.remove_if_unused()
    assert not folder.path.exists()


def test_a_folder_that_another_run_made_after_ours_went_is_left_alone(tmp_path):
    folder = WorkFolder(tmp_path / "out.mkv")
    with working(folder, restart=False):
        folder.remove()  # as a delivered job does
        other = working(WorkFolder(tmp_path / "out.mkv"), restart=False)
        other.__enter__()
    assert folder.lock.exists()
    other.__exit__(None, None, None)


def test_parts_without_a_plan_are_of_no_known_job_and_go(tmp_path):
    folder = WorkFolder(tmp_path / "out.mkv")
    folder.create()
    for path in (folder.segment(0), folder.state(0), folder.latents("key", 0)):
        path.touch()
    with working(folder, restart=False):
        assert list(folder.path.iterdir()) == [folder.lock]


def test_a_folder_is_removed_plan_first(tmp_path, monkeypatch):
    folder = WorkFolder(tmp_path / "out.mkv")
    folder.create()
    folder.plan.touch()
    folder.segment(0).touch()
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # killed before anything else went
    folder.remove()
    assert list(folder.path.iterdir()) == [folder.segment(0)]
