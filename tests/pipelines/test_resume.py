"""Stopped, killed and started again: the same frames as if nothing had happened."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clips import pixels_of, times_of

from legato.errors import InputError, Interrupted, ResourceError
from legato.pipelines.batch import upscale_folder
from legato.pipelines.lock import Lock
from legato.pipelines.report import Report, report_path
from legato.pipelines.restore import Restorer
from legato.pipelines.run_options import RunOptions
from legato.pipelines.upscale import upscale
from legato.pipelines.workfolder import WorkFolder


class StopAfter:
    """Asks a job to stop when it was asked `calls` times."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("consistency", ["temporal", "temporal,propagation"])
def test_a_job_stopped_behind_every_segment_gives_the_same_frames(
    clip, options, tmp_path, consistency
):
    source, target = clip(cut=6), tmp_path / "out.mkv"
    chosen = options(segment=3, consistency=consistency)
    upscale(source, tmp_path / "whole.mkv", chosen)
    for _ in range(3):
        with pytest.raises(Interrupted):
            upscale(source, target, chosen, stop=StopAfter(1))
        assert not target.exists()
    report = upscale(source, target, chosen)
    assert report.segments_resumed == 3
    assert np.array_equal(pixels_of(target), pixels_of(tmp_path / "whole.mkv"))
    assert times_of(target) == times_of(tmp_path / "whole.mkv")
    assert not WorkFolder(target).path.exists()


def stopped(source, target, chosen, run=None):
    with pytest.raises(Interrupted):
        upscale(source, target, chosen, run=run, stop=StopAfter(1))


def test_other_options_are_refused_and_named(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    stopped(source, target, options())
    with pytest.raises(InputError, match=r"--seed 5, was 0.*--restart"):
        upscale(source, target, options(seed=5))
    report = upscale(source, target, options(seed=5), run=RunOptions(restart=True))
    assert report.segments_resumed == 0


def test_another_precision_is_refused(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    stopped(source, target, options(), run=RunOptions(dtype="float32"))
    with pytest.raises(InputError, match="--dtype bfloat16, was float32"):
        upscale(source, target, options(), run=RunOptions(dtype="bfloat16"))


def test_segments_whose_plan_is_gone_join_no_other_job(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    stopped(source, target, options())
    WorkFolder(target).plan.unlink()
    report = upscale(source, target, options(seed=5))
    assert report.segments_resumed == 0
    upscale(source, tmp_path / "whole.mkv", options(seed=5))
    assert np.array_equal(pixels_of(target), pixels_of(tmp_path / "whole.mkv"))


def test_a_job_that_was_not_strict_does_not_become_so(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    stopped(source, target, options())
    with pytest.raises(InputError, match="--strict given, was not given"):
        upscale(source, target, options(strict=True))


def test_a_changed_source_is_refused(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    stopped(source, target, options())
    clip(frames=9)
    with pytest.raises(InputError, match="source"):
        upscale(source, target, options())


def test_a_fallback_is_taken_over(clip, options, tmp_path, monkeypatch):
    source, target = clip(), tmp_path / "out.mkv"
    real = Restorer.stream

    def stream(self, *args, **kwargs):
        if self.settings.window > 4:
            raise MemoryError
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("legato.pipelines.restorers.Restorers.footprint", small_footprint)
        patch.setattr(Restorer, "stream", stream)
        stopped(source, target, options())
    report = upscale(source, target, options())
    assert report.window == 4
    assert len(report.fallbacks) == 1


def small_footprint(*_):
    from legato.pipelines.memory import Footprint

    return Footprint(unet=0, decoder=0, denoising=1.0, decoding=1.0)


def test_damaged_state_asks_for_a_restart(clip, options, tmp_path):
    source, target = clip(), tmp_path / "out.mkv"
    stopped(source, target, options())
    state = WorkFolder(target).state(0)
    state.write_bytes(state.read_bytes()[:-5])
    with pytest.raises(InputError, match="--restart"):
        upscale(source, target, options())


def emptied(file):
    file.write_bytes(b"")


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def spoilt(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("codec", "damage"),
    [
        ("ffv1", emptied),
        ("ffv1", halved),
        ("png", halved),
        ("png", spoilt),
        ("png", Path.unlink),
    ],
)
def test_a_damaged_segment_asks_for_a_restart_before_more_is_computed(
    clip, options, tmp_path, codec, damage
):
    source, target = clip(), tmp_path / ("out" if codec == "png" else "out.mkv")
    with pytest.raises(Interrupted):
        upscale(source, target, options(codec=codec), stop=StopAfter(2))
    segment = next(WorkFolder(target).path.glob("segment_000000*"))
    damage(next(segment.iterdir()) if codec == "png" else segment)
    with pytest.raises(InputError, match=r"segment_000000.* of 4 frames.*--restart"):
        upscale(source, target, options(codec=codec), stop=StopAfter(0))
    assert not target.exists()


@pytest.fixture
def no_report(monkeypatch):
    """Runs end before their report is written, as those that are killed there."""

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Report, "close", fail)


def test_a_folder_without_its_report_is_finished(clip, options, tmp_path, no_report, monkeypatch):
    source, target, chosen = clip(), tmp_path / "out", options(codec="png", segment=3)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            upscale(source, target, chosen)
    made = {still: still.stat().st_ino for still in target.iterdir()}
    monkeypatch.undo()
    report = upscale(source, target, chosen)
    assert report.segments_resumed == report.segments
    assert {still: still.stat().st_ino for still in target.iterdir()} == made
    assert report_path(target).exists()
    assert not WorkFolder(target).path.exists()
    with pytest.raises(InputError, match="is not empty"):
        upscale(source, target, chosen)


def test_a_folder_that_others_changed_is_not_taken_for_an_output(
    clip, options, tmp_path, no_report
):
    source, target, chosen = clip(), tmp_path / "out", options(codec="png")
    with pytest.raises(KeyboardInterrupt):
        upscale(source, target, chosen)
    (target / "notes.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        upscale(source, target, chosen)


def test_a_video_of_a_folder_without_its_report_is_finished(
    clip, options, tmp_path, no_report, monkeypatch
):
    source = clip().rename(tmp_path / "a.mkv").parent
    with pytest.raises(KeyboardInterrupt):
        upscale_folder(source, tmp_path / "out", options())
    monkeypatch.undo()
    again = upscale_folder(source, tmp_path / "out", options())
    assert ([*again.failed], len(again.done)) == ([], 1)


def test_two_jobs_on_one_output(clip, options, tmp_path):
    target = tmp_path / "out.mkv"
    folder = WorkFolder(target)
    folder.create()
    with Lock(folder.lock), pytest.raises(ResourceError, match="another run"):
        upscale(clip(), target, options())


KILLS = int(os.environ.get("LEGATO_TEST_KILLS", "2"))
"""How often a job is killed; every start costs seconds of imports."""

COMMAND = """
import sys
import torch
torch.set_num_threads(1)
from legato.apps.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(source, target, model, *more):
    flags = ["--model", model, "--segment", "2", "--codec", "ffv1", "--quiet", *more]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "upscale", str(source), str(target), *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_at_random_moments(clip, tmp_path, tiny_model):
    source, target = clip(frames=40), tmp_path / "out.mkv"
    start(source, tmp_path / "whole.mkv", tiny_model).communicate(timeout=300)
    chance = random.Random(1)
    folder = WorkFolder(target, suffix=".mp4")
    kills = 0
    while kills < KILLS and not target.exists():
        process = start(source, target, tiny_model)
        finished = len(list(folder.path.glob("segment_*"))) if folder.path.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            now = len(list(folder.path.glob("segment_*"))) if folder.path.exists() else 0
            if now > finished:
                break
            time.sleep(0.01)
        time.sleep(chance.random() * 0.2)
        process.kill()
        process.communicate()
        kills += 1
    while not target.exists():
        process = start(source, target, tiny_model)
        assert process.communicate(timeout=300)[1] == ""
    assert kills == KILLS
    assert np.array_equal(pixels_of(target), pixels_of(tmp_path / "whole.mkv"))
    assert not folder.path.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_signal_ends_the_job_behind_its_segment(clip, tmp_path, tiny_model):
    import signal

    source, target = clip(frames=24), tmp_path / "out.mkv"
    folder = WorkFolder(target, suffix=".mp4")
    process = start(source, target, tiny_model)
    while not folder.segment(0).exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert "stopping behind this segment" in said
    assert said.strip().splitlines()[-1].startswith("error: stopped")
    assert not target.exists()
    assert folder.segment(0).exists()
