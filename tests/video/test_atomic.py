"""Files that are complete or absent."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import av.error
import pytest

from legato.errors import InputError, ResourceError
from legato.video.atomic import (
    making_folder,
    put_in_place,
    said_bytes,
    temporary_beside,
    write_whole,
    writing,
)


def test_a_temporary_name_is_hidden_in_the_same_folder_and_of_the_same_kind(tmp_path):
    name = temporary_beside(tmp_path / "out.mp4")
    assert (name.parent, name.suffix) == (tmp_path, ".mp4")
    assert name.name.startswith(".")


@pytest.mark.parametrize("stem", ["x" * 251, "é" * 120])
def test_the_longest_names_work(tmp_path, stem):
    target = tmp_path / f"{stem}.mp4"
    temporary = temporary_beside(target)
    temporary.write_bytes(b"1")
    put_in_place(temporary, target)
    assert target.read_bytes() == b"1"


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = tmp_path / f".out.{finished.pid}.part.mp4"
    living = tmp_path / f".out.{os.getppid()}.part.mp4"
    other = tmp_path / f".other.{finished.pid}.part.mp4"
    for file in (dead, living, other):
        file.write_bytes(b"1")
    temporary_beside(tmp_path / "out.mp4")
    assert (dead.exists(), living.exists(), other.exists()) == (False, True, True)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0.0 kB"),
        (200_000, "200 kB"),
        (1_500_000, "1.5 MB"),
        (67 * 10**9, "67 GB"),
    ],
)
def test_bytes_are_said_in_a_unit_that_fits(count, said):
    assert said_bytes(count) == said


def test_a_folder_replaces_a_folder(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").write_bytes(b"1")
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert [p.name for p in (tmp_path / "old").iterdir()] == ["new.png"]
    assert not (tmp_path / "new").exists()


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    write_whole(path, b"old")

    def fill_the_disk(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(ResourceError, match="the disk is full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        temporary_beside(tmp_path / "nowhere" / "out.mp4")


def fail_in(folder, *, written):
    with making_folder(folder):
        if written:
            (folder / "a.txt").touch()
        raise InputError("a", why="in the work", fix="none")


@pytest.mark.parametrize("written", [False, True])
def test_folders_that_were_made_for_nothing_go(tmp_path, written):
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "old", tmp_path / "new" / "out"):
        with pytest.raises(InputError, match="in the work"):
            fail_in(folder, written=written)
    assert (tmp_path / "old").exists()
    assert (tmp_path / "new").exists() == (tmp_path / "new" / "out" / "a.txt").exists() == written


def test_a_container_that_refuses_packets_does_not_send_the_user_to_another_path(tmp_path):
    with pytest.raises(InputError, match="another kind of file"), writing(tmp_path / "a.mp4"):
        raise av.error.ArgumentError(errno.EINVAL, "Invalid argument")
