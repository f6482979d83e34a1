"""Jobs of the page: real processes, one after another."""

import os
import re
import signal
import sys
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from clips import pixels_of

import legato
from legato.apps import queue as queue_module
from legato.apps.plan import PlanCommand
from legato.apps.progress import Stretch
from legato.apps.queue import STOPPING, Job, Queue, finish
from legato.apps.upscale import UpscaleCommand
from legato.errors import InputError
from legato.pipelines.events import Event

LONG = 240.0  # seconds; a process starts in a few


@pytest.fixture
def jobs():
    queue = Queue()
    yield queue
    queue.close()
    queue.close()
    assert queue.wait(LONG)


def upscaling(clip, target, options, **changes):
    return UpscaleCommand(source=clip, target=target, options=options(**changes))


def run(command, stop=lambda: False):
    events = []
    return finish(command, events.append, stop), events


def test_jobs_follow_one_another_and_a_failed_one_holds_nobody_up(jobs, clip, options, tmp_path):
    source = clip(frames=5)
    missing = upscaling(source, tmp_path / "a.mkv", options, model=str(tmp_path / "no model"))
    first = jobs.submit("a", missing)
    second = jobs.submit("b", upscaling(source, tmp_path / "b.mkv", options))
    assert [first.number, second.number] == [1, 2]
    assert jobs.wait(LONG)
    assert first.state == "failed"
    assert "no model" in first.text
    assert "\n" not in first.text
    assert second.state == "done"
    assert "5 frames in, 5 out" in second.text
    legato.upscale(source, tmp_path / "c.mkv", options())
    assert np.array_equal(pixels_of(tmp_path / "b.mkv"), pixels_of(tmp_path / "c.mkv"))


def test_a_stopped_job_goes_on_to_the_same_frames(jobs, clip, options, tmp_path):
    source = clip(frames=60)
    command = upscaling(source, tmp_path / "out.mkv", options, segment=1)
    job = jobs.submit("out", command)
    waiting = jobs.submit("other", upscaling(source, tmp_path / "other.mkv", options))
    jobs.stop(waiting)
    assert (waiting.state, waiting.text) == ("stopped", "was not begun")
    while not re.search(r"upscaling [1-9]", job.text):
        sleep(0.01)
        assert not job.has_ended, job.text
    jobs.stop(job)
    assert jobs.wait(LONG)
    assert job.state == "stopped"
    assert "goes on" in job.text
    assert job.notices[-1] == STOPPING
    assert not (tmp_path / "out.mkv").exists()
    again = jobs.submit("out", command)
    assert jobs.wait(LONG)
    assert again.state == "done"
    assert not (tmp_path / "other.mkv").exists()
    report = legato.upscale(source, tmp_path / "whole.mkv", options(segment=1))
    assert report.frames_out == 60
    assert np.array_equal(pixels_of(tmp_path / "out.mkv"), pixels_of(tmp_path / "whole.mkv"))


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_killed_process_is_told_and_the_next_job_runs(jobs, clip, options, tmp_path):
    source = clip(frames=5)
    job = jobs.submit("a", upscaling(source, tmp_path / "a.mkv", options))
    after = jobs.submit("b", PlanCommand(source=source, options=options()))
    while jobs._running is None:
        sleep(0.01)
    os.kill(jobs._running[1].pid, signal.SIGKILL)
    assert jobs.wait(LONG)
    assert job.state == "failed"
    assert "killed" in job.text
    assert "goes on" in job.text
    assert after.state == "done"
    assert after.text.startswith("frames   5 in 1 shot,")


def test_stopping_twice_ends_a_job_at_once(jobs, clip, options, tmp_path):
    job = jobs.submit("a", upscaling(clip(frames=5), tmp_path / "a.mkv", options))
    while job.state == "waiting":
        sleep(0.01)
    jobs.stop(job)
    jobs.stop(job)
    assert jobs.wait(LONG)
    assert (job.state, job.text.partition(";")[0]) == ("stopped", "stopped at once")
    assert not (tmp_path / "a.mkv").exists()


def test_a_plan_which_asks_nobody_ends_when_it_is_told(jobs, clip, options):
    job = jobs.submit("plan", PlanCommand(source=clip(frames=5), options=options()))
    while job.state == "waiting":
        sleep(0.01)
    jobs.stop(job)
    assert jobs.wait(LONG)
    assert (job.state, job.text) == ("stopped", "stopped at once")


def test_a_closed_queue_begins_nothing(clip, options, tmp_path):
    queue = Queue()
    queue.close()
    job = queue.submit("late", upscaling(clip(), tmp_path / "a.mkv", options))
    assert (job.state, job.text) == ("stopped", "was not begun")


def test_the_end_says_what_the_command_line_says(clip, options, tmp_path):
    source, target = clip(frames=5), tmp_path / "out.mkv"
    end, events = run(upscaling(source, target, options))
    assert end.state == "done"
    assert end.text.startswith(f"{target}: 5 frames in, 5 out, 32x24 -> 128x96")
    assert {"load", "restore", "join"} <= {event.stage for event in events}
    end, _ = run(UpscaleCommand(source=source, target=target, options=options(), preview=True))
    assert "out_preview.mkv: 5 frames in, 5 out" in end.text
    end, _ = run(upscaling(source, tmp_path / "stop.mkv", options), stop=lambda: True)
    assert end.state == "stopped"


def test_a_bug_is_told_in_one_line(monkeypatch, clip, options, tmp_path):
    def broken(*_, **__):
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(queue_module.upscale, "perform", broken)
    end, _ = run(upscaling(clip(), tmp_path / "out.mkv", options))
    assert (end.state, end.text) == ("failed", "a bug in legato: ZeroDivisionError: a b")


def test_events_become_words_a_share_and_notices():
    job = Job(number=1, title="a", command=PlanCommand(source=Path("a")))
    stretch, clock = Stretch(), iter(range(10))
    for event in (
        Event(stage="restore", done=2, total=8),
        Event(stage="notice", message="opacity"),
        Event(stage="restore", done=4, total=8),
    ):
        queue_module._follow(job, event, stretch, lambda: float(next(clock)))
    assert job.text == "upscaling 4/8 frames, 2 frames/s, 0:02 left"
    assert (job.share, job.notices) == (0.5, ["opacity"])


def test_an_error_of_ours_keeps_its_words(monkeypatch, clip, options, tmp_path):
    def refusing(*_, **__):
        raise InputError("tile=3", why="too small", fix="use 16 or more")

    monkeypatch.setattr(queue_module.upscale, "perform", refusing)
    end, _ = run(upscaling(clip(), tmp_path / "out.mkv", options))
    assert (end.state, end.text) == ("failed", "tile=3: too small; use 16 or more")
