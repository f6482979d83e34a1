"""`legato translate`: flags are the options of Python, errors are one line."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from clips import pixels_of
from tiny_image_model import tiny_words_image_model

from legato.apps import cli
from legato.apps import translate as translate_app
from legato.apps.arguments import SAMPLING_ALIASES, parse
from legato.pipelines.translate_options import TranslateOptions

QUICK = ["--steps", "2", "--guidance", "1", "--consistency", "none", "--codec", "ffv1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_words_image_model(tmp_path_factory.mktemp("image") / "tiny"))


def parsed(*arguments):
    given = ["in.mp4", "out.mp4", *arguments]
    return parse(translate_app.TranslateCommand, given, name="translate", aliases=SAMPLING_ALIASES)


def test_no_flags_mean_the_defaults_of_python():
    assert parsed().options == TranslateOptions()


def test_what_only_upscaling_models_can_is_no_flag(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    said = capsys.readouterr().out
    assert "--dtype" in said
    assert "int8" not in said
    assert "offload" not in said
    assert cli.main(["translate", "in.mp4", "out.mp4", "--offload"]) == 2
    assert "--offload" in capsys.readouterr().err
    assert not parsed("--dtype", "float32").run.offload


def test_flags_reach_the_options():
    flags = ["--prompt", "night", "--strength", "0.5", "--solver", "ddim", "--colorize"]
    options = parsed(*flags, "--min-interval", "2", "--prompt-at", "1=a", "2=b").options
    assert (options.prompt, options.strength, options.solver) == ("night", 0.5, "ddim")
    assert (options.colorize, options.keyframes.min_interval) == (True, 2)
    assert options.prompt_at == ("1=a", "2=b")


def test_a_video_is_translated_with_progress_a_report_and_a_check(model, clip, tmp_path, capsys):
    source, target = str(clip(frames=4)), str(tmp_path / "out.mkv")
    flags = ["--prompt", "night", "--model", model, "--json", *QUICK]
    assert cli.main(["translate", source, target, *flags]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["frames_in"], report["frames_out"], report["key_frames"]) == (4, 4, 2)
    assert "key frames" in said.err
    assert (tmp_path / "out.mkv.legato.json").exists()
    assert cli.main(["verify", source, target]) == 0


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--prompt", "sunrise"], 2, "use some of: day, night"),
        (["--strength", "2"], 2, "strength=2"),
        (["--controlnet", "nowhere"], 3, "nowhere"),
        (["--model", "nowhere"], 3, "neither a known name nor a folder"),
        (["--min-interval", "9", "--max-interval", "2"], 2, "not above the greatest"),
    ],
)
def test_what_cannot_be_is_one_line(model, clip, tmp_path, capsys, flags, code, said):
    chosen = flags if "--model" in flags else [*flags, "--model", model]
    source = str(clip(frames=2))
    arguments = ["translate", source, str(tmp_path / "a.mkv"), *chosen, "--quiet"]
    assert cli.main(arguments) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize(
    "flags", [["--lora"], ["--controlnet", "any", "--hint"]], ids=["lora", "hint"]
)
def test_the_output_replaces_nothing_that_is_read(model, clip, tmp_path, capsys, flags):
    source, target = clip(frames=2), clip(name="hint.mkv", frames=2)
    held = target.read_bytes()
    arguments = [str(source), str(target), "--model", model, "--quiet", *flags, str(target)]
    assert cli.main(["translate", *arguments]) == 2
    assert "both input and output" in capsys.readouterr().err
    assert target.read_bytes() == held


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_frames(model, clip, tmp_path):
    source = str(clip(frames=8, cut=5))
    flags = ["--prompt", "night", "--model", model, "--min-interval", "1", "--max-interval", "2"]
    flags += ["--batch-size", "3", "--segment", "4", *QUICK[:4], "--consistency", "all-frames"]
    flags += ["--codec", "ffv1", "--quiet"]
    command = [sys.executable, "-m", "legato.apps.entry", "translate", source]
    whole, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    assert cli.main(["translate", source, str(whole), *flags]) == 0
    work = tmp_path / ".out.mkv.legato"
    with subprocess.Popen([*command, str(target), *flags]) as process:
        while process.poll() is None and not list(work.glob("latents_*_000001.safetensors")):
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not target.exists()
    done = subprocess.run(
        [*command, str(target), *flags, "--json"], check=True, capture_output=True
    )
    assert json.loads(done.stdout)["parts_resumed"] >= 2
    assert np.array_equal(pixels_of(target), pixels_of(whole))
