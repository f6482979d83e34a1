import errno
import os
import subprocess
import sys

import pytest

from legato.errors import ResourceError
from legato.pipelines.lock import Lock

HOLD = """
import sys
from pathlib import Path
from legato.pipelines.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_second_process_is_refused_and_told_who_works_there(owner, tmp_path):
    with pytest.raises(ResourceError, match=f"process {owner.pid}"), Lock(tmp_path / "lock"):
        pass


def test_where_files_cannot_be_locked_the_process_tells(owner, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refused(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(ResourceError, match=f"process {owner.pid}"), Lock(tmp_path / "lock"):
        pass
    owner.kill()
    owner.wait()
    with Lock(tmp_path / "lock") as ours:
        assert ours.is_held


def test_a_killed_process_leaves_the_lock_free(owner, tmp_path):
    owner.kill()
    owner.wait()
    assert (tmp_path / "lock").exists()
    with Lock(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_released_lock_leaves_no_file(tmp_path):
    with Lock(tmp_path / "lock"):
        pass
    assert not (tmp_path / "lock").exists()


def test_a_lock_made_anew_by_another_run_is_not_ours_to_remove(tmp_path):
    with Lock(tmp_path / "lock") as ours:
        assert ours.is_held
        (tmp_path / "lock").unlink()
        (tmp_path / "lock").write_text("another")
        assert not ours.is_held
    assert (tmp_path / "lock").read_text() == "another"
