"""`legato generate`: flags are the options of Python, errors are one line."""

import json
from types import SimpleNamespace

import pytest
import torch
from tiny_generator import tiny_generator_folder

from legato.apps import cli
from legato.apps import generate as generate_app
from legato.apps.arguments import SAMPLING_ALIASES, parse
from legato.errors import InputError, ResourceError
from legato.pipelines import output
from legato.pipelines.generate_options import GenerateOptions
from legato.pipelines.generation import Generation
from legato.pipelines.generation_forecast import plan_generation


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator") / "tiny"
    return str(tiny_generator_folder(folder, interpolation="none"))


def parsed(*arguments):
    given = ["night, crowded", "-o", "out.mp4", *arguments]
    return parse(generate_app.GenerateCommand, given, name="generate", aliases=SAMPLING_ALIASES)


def test_no_flags_mean_the_defaults_of_python():
    assert parsed().options == GenerateOptions()
    assert parsed().prompt == "night, crowded"


def test_help_tells_of_no_choice_that_is_refused(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "int8" not in said
    assert "Of --upsampler, keep only the part in memory" in said
    assert "driving knows no rates" in said
    assert parsed("--offload", "--dtype", "bfloat16").run.offload


def test_choices_are_told_in_order():
    with pytest.raises(InputError, match=r"Expected one of \('0', '1', '2'\); see"):
        parsed("--interpolations", "3")


def test_flags_reach_the_options():
    flags = ["--frames", "40", "--fps", "7.5", "--first-frame", "a.png", "--seed", "3"]
    options = parsed(*flags, "--steps", "9", "--guidance", "2", "--context-guidance", "1.5").options
    assert (options.frames, options.fps, str(options.first_frame)) == (40, 7.5, "a.png")
    assert (options.seed, options.num_inference_steps) == (3, 9)
    assert (options.guidance_scale, options.context_guidance) == (2.0, 1.5)


def test_a_video_is_made_with_progress_and_a_report(model, tmp_path, capsys):
    target = tmp_path / "out.mp4"
    assert cli.main(["generate", "night", "-o", str(target), "--model", model, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["frames"] == 3
    assert "key frames 1/3 frames" in said.err
    assert (tmp_path / "out.mp4.legato.json").exists()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["foggy"], 2, "use some of: day, night, empty, crowded"),
        (["", "--frames", "0"], 2, "frames=0"),
        (["", "--seconds", "1", "--frames", "2"], 2, "alone fixes the length"),
        (["", "--first-frame", "nowhere.png"], 2, "nowhere.png"),
        (["", "--interpolations", "2"], 3, "lacks interpolation/"),
        (["", "--model", "nowhere"], 3, "neither a known name nor a folder"),
    ],
)
def test_what_cannot_be_is_one_line(model, tmp_path, capsys, flags, code, said):
    chosen = flags if "--model" in flags else [*flags, "--model", model]
    assert cli.main(["generate", *chosen, "-o", str(tmp_path / "a.mp4"), "--quiet"]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--first-frame", "--last-frame", "--boxes"])
def test_the_output_replaces_nothing_that_is_read(model, clip, tmp_path, capsys, option):
    target = clip(frames=1)
    held = target.read_bytes()
    for given in (target, tmp_path / "link.mkv"):
        if not given.exists():
            given.symlink_to(target)
        flags = [option, str(given), "--model", model, "--quiet"]
        assert cli.main(["generate", "night", "-o", str(target), *flags]) == 2
        assert "both input and output" in capsys.readouterr().err
        assert target.read_bytes() == held


def test_a_generating_model_can_be_inspected(model, capsys):
    assert cli.main(["models", "inspect", model]) == 0
    said = capsys.readouterr().out
    assert "tiny-generator: generate, family" in said
    assert "whole" in said


def test_a_plan_says_what_is_needed_and_makes_nothing(model, tmp_path, capsys):
    target = tmp_path / "out.mp4"
    asked = ["generate", "night", "-o", str(target), "--model", model, "--frames", "7", "--plan"]
    assert cli.main([*asked, "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["frames"], found["key_frames"], found["calls"]) == (7, 7, 5)
    assert found["parts"]["keyframes"] == 6  # and the first frame
    assert found["seconds"] == pytest.approx(sum(found["seconds_of_stages"].values()), abs=0.01)
    assert min(found["disk_bytes"], found["memory_bytes"], found["seconds"]) > 0
    assert not list(tmp_path.iterdir())
    assert cli.main([*asked, "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "7 from 7 key frames in 5 calls" in said
    assert "6 of keyframes" in said


def test_a_plan_tells_that_the_disk_has_no_room(model, tmp_path, monkeypatch):
    options = GenerateOptions(model=model, frames=1)
    assert plan_generation("night", tmp_path / "out.mkv", options).notices == []
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    (told,) = plan_generation("night", tmp_path / "out.mkv", options).notices
    assert "of disk space needed" in told


def test_a_plan_whose_memory_runs_out_names_the_dials(model, tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Generation, "make_key_frames", fail)
    with pytest.raises(ResourceError, match=r"memory ran out: frames of 16x16.*--width") as found:
        plan_generation("", tmp_path / "out.mkv", GenerateOptions(model=model, frames=1))
    assert "--restart" not in str(found.value)  # there is nothing to begin anew
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_videos_are_planned_too(model, tmp_path, frames):
    options = GenerateOptions(model=model, frames=frames)
    found = plan_generation("night", tmp_path / "stills", options)
    assert found.frames == found.key_frames == frames
    assert found.calls == frames - 1


def test_longer_videos_need_more_time_and_disk_but_the_same_parts_at_once(model, tmp_path):
    short, long = (
        plan_generation("", tmp_path / "out.mkv", GenerateOptions(model=model, frames=n))
        for n in (5, 500)
    )
    assert long.disk_bytes > 50 * short.disk_bytes
    assert long.calls > 50 * short.calls
