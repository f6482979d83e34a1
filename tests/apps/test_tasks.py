"""What a filled form means."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legato.apps.generate import GenerateCommand
from legato.apps.plan import PlanCommand
from legato.apps.queue import Job
from legato.apps.tasks import TASKS, Results, result_name, target_of, title_of
from legato.apps.upscale import UpscaleCommand
from legato.errors import InputError

UPSCALE, GENERATE, TRANSLATE = TASKS


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    return Results(folder, [])


def made_by(task, results, first, *, way="start", name="", **values):
    by_name = {entry.name: entry for entry in task.offered()}
    chosen = {by_name[key]: value for key, value in values.items()}
    return list(task.commands(way, str(first), name, chosen, results))


def test_all_that_is_shown_is_offered():
    for task in TASKS:
        offered = {entry.name for entry in task.offered()}
        assert set(task.shown) <= offered
        assert not offered & {"json", "quiet", "plan", "preview", "report"}


def test_a_form_is_a_command_into_the_folder(clip, results):
    source = clip(frames=3)
    (command,) = made_by(UPSCALE, results, source, noise_level="20", keep_interlaced=True)
    assert (command.source, command.target) == (source, results.folder / "in_upscaled.mkv")
    assert command.options.restore.noise_level == 20
    assert command.options.read.keep_interlaced
    assert not command.preview
    (command,) = made_by(UPSCALE, results, source, way="preview", name="x.mp4")
    assert command.preview
    assert target_of(command) == results.folder / "x_preview.mp4"
    (command,) = made_by(UPSCALE, results, source, way="plan", height="480")
    assert isinstance(command, PlanCommand)
    assert command.options.height == 480
    assert (target_of(command), title_of(command)) == (None, "plan of in.mkv")


def test_words_are_generated(results):
    (command,) = made_by(GENERATE, results, "-night, rain", seed="7")
    assert isinstance(command, GenerateCommand)
    assert (command.prompt, command.options.seed) == ("-night, rain", 7)
    assert command.target == results.folder / "generated.mp4"
    (command,) = made_by(GENERATE, results, "", way="plan", name="a.webm")
    assert command.plan
    assert (command.prompt, target_of(command), title_of(command)) == ("", None, "plan of a video")


def test_what_cannot_work_is_told_before_it_waits(clip, results, tmp_path):
    source = clip(frames=3)
    with pytest.raises(InputError, match="none was chosen"):
        made_by(UPSCALE, results, "")
    with pytest.raises(InputError, match=r"nothing\.mp4"):
        made_by(UPSCALE, results, tmp_path / "nothing.mp4")
    with pytest.raises(InputError, match="noise_level=-1"):
        made_by(UPSCALE, results, source, noise_level="-1")
    with pytest.raises(InputError, match="twenty"):
        made_by(UPSCALE, results, source, noise_level="twenty")
    with pytest.raises(InputError, match="model"):
        made_by(TRANSLATE, results, source)
    with pytest.raises(InputError, match=r"nothing\.png"):
        made_by(GENERATE, results, "night", first_frame=str(tmp_path / "nothing.png"))


@pytest.mark.parametrize("name", ["../out.mp4", "/tmp/out.mp4", "a/b.mp4", "..", "."])
def test_results_lie_in_their_folder(name, clip, results):
    with pytest.raises(InputError, match="no plain name"):
        made_by(UPSCALE, results, clip(frames=3), name=name)


def test_a_folder_of_videos_is_a_job_for_each(clip, results, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("b.mkv", "a.mkv"):
        clip(frames=3).rename(folder / name)
    commands = made_by(UPSCALE, results, folder)
    assert [command.target.name for command in commands] == ["a_upscaled.mkv", "b_upscaled.mkv"]
    with pytest.raises(InputError, match="many results"):
        made_by(UPSCALE, results, folder, name="x.mp4")
    with pytest.raises(InputError, match="folder of videos"):
        made_by(UPSCALE, results, folder, way="preview")


def test_nothing_that_stands_or_is_coming_is_replaced(clip, results):
    source = clip(frames=3)
    (results.folder / "in_upscaled.mkv").write_bytes(b"")
    (command,) = made_by(UPSCALE, results, source)
    assert command.target.name == "in_upscaled_2.mkv"
    job = Job(number=1, title="a", command=command)
    busy = replace(results, jobs=[job])
    assert made_by(UPSCALE, busy, source)[0].target.name == "in_upscaled_3.mkv"
    job.state = "stopped"  # begun, and the same again goes on with it
    assert made_by(UPSCALE, busy, source)[0].target.name == "in_upscaled_2.mkv"
    (preview,) = made_by(UPSCALE, busy, source, way="preview")
    assert preview.target.name == "in_upscaled.mkv"


def test_results_are_named_after_what_they_come_from(tmp_path):
    folder = tmp_path / "frames.d"
    folder.mkdir()
    assert result_name(folder, "upscaled") == "frames.d_upscaled"
    assert result_name(Path("a.b.MOV"), "upscaled") == "a.b_upscaled.mov"
    assert result_name(Path("old.wmv"), "upscaled") == "old_upscaled.mp4"
    assert result_name(Path("scan.tiff"), "translated") == "scan_translated.tiff"


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_numbers_are_given_once(tmp_path_factory, is_preview):
    folder = tmp_path_factory.mktemp("results")
    jobs = []
    for is_trial in is_preview:
        path = Results(folder, jobs).path("a.mp4", is_trial=is_trial)
        if not is_trial:
            command = UpscaleCommand(source=Path("a"), target=path)
            jobs.append(Job(number=len(jobs) + 1, title="a", command=command))
    targets = [job.command.target for job in jobs]
    assert len(set(targets)) == len(targets)
