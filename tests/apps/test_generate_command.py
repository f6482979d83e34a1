"""`legato generate`: flags are the options of Python, errors are one line."""

import json

import pytest
from tiny_generator import tiny_generator_folder

from legato.apps import cli
from legato.apps import generate as generate_app
from legato.apps.arguments import SAMPLING_ALIASES, parse
from legato.pipelines.generate_options import GenerateOptions


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


def test_a_generating_model_can_be_inspected(model, capsys):
    assert cli.main(["models", "inspect", model]) == 0
    said = capsys.readouterr().out
    assert "tiny-generator: generate x4" in said
    assert "whole" in said
