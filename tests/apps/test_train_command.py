"""`legato train`: which recipes there are, and that flags are their options."""

import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file
from shard_clips import write_videos
from tiny_image_model import tiny_words_image_model

from legato.apps.arguments import parse
from legato.apps.cli import main
from legato.training.shards import Shards
from legato.training.upscaler_recipes import TrainUpscalerOptions


def command(recipe, tmp_path, *flags):
    """Return a recipe's command with these flags, and with what it needs beside them."""
    needed = {"--out": str(tmp_path / "out")}
    if not recipe.startswith("driving"):
        needed["--data"] = str(tmp_path)
    if recipe == "upscale_a_video":
        needed["--held-back"] = str(tmp_path)
    if recipe == "dreambooth":
        needed["--prompt"] = "a"
    if recipe == "video_ldm":
        needed["--model"] = "driving"
    beside = [part for name, value in needed.items() if name not in flags for part in (name, value)]
    return ["train", recipe, *beside, *flags]


def test_the_recipes_are_told(capsys):
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("embedded", "upscale_a_video", "shards", "video_ldm"))


@pytest.mark.parametrize("name", ["", "unknown"])
def test_another_recipe_is_refused_in_one_line(name, capsys):
    assert main(["train", name]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "embedded or upscale_a_video or shards" in said


def test_flags_of_the_recipe_are_its_options():
    given = ["--data", "a", "b", "--held-back", "c", "--stages", "unet", "--batch-size", "64"]
    options = parse(TrainUpscalerOptions, given, name="train upscale_a_video")
    assert [str(path) for path in options.data] == ["a", "b"]
    assert options.stages == ("unet",)
    assert options.recipe("unet").batch.batch_size == 64


def test_shards_are_made_and_a_folder_without_videos_is_told(tmp_path, capsys):
    videos = write_videos(tmp_path / "videos", ["a"])
    flags = ["--frames", "4", "--size", "32"]
    target = tmp_path / "shards"
    assert main(["train", "shards", "--data", str(videos), "--out", str(target), *flags]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert len(Shards((target,))) == 2
    missing = ["train", "shards", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "b")]
    assert main(missing) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_photographs_give_no_shards_and_are_told_where_they_belong(tmp_path, capsys):
    (tmp_path / "photographs").mkdir()
    for k in range(6):
        picture = np.full((40 + k, 48, 3), 40 * k, np.uint8)
        cv2.imwrite(str(tmp_path / "photographs" / f"{k}.png"), picture)
    flags = ["--out", str(tmp_path / "shards"), "--frames", "4", "--size", "32"]
    assert main(["train", "shards", "--data", str(tmp_path / "photographs"), *flags]) == 2
    told, *_, refused = capsys.readouterr().err.splitlines()
    assert "its images have several sizes" in told
    assert "leave photographs to train frames" in refused
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("recipe", ["embedded", "motion", "shards"])
def test_data_that_cannot_be_read_leaves_no_folder(tmp_path, recipe):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(b"no video")
    out = ["--out", str(tmp_path / "runs" / "out")]
    assert main(["train", recipe, "--data", str(tmp_path / "data"), *out]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("recipe", "name", "value"),
    [
        ("driving", "clips", "0"),
        ("driving", "clips", "-1"),
        ("driving_x4", "steps", "0"),
        ("embedded", "steps", "0"),
        ("motion", "learning-rate", "nan"),
        ("motion", "fps", "nan"),
        ("motion", "fps", "0"),
        ("shards", "seed", "-1"),
        ("shards", "quality", "1000"),
        ("shards", "shard-mb", "nan"),
        ("frames", "learning-rate", "nan"),
        ("upscale_a_video", "steps", "0"),
        ("video_ldm", "key-frame-rate", "0"),
        ("video_ldm", "interpolations", "3"),
        ("video_ldm", "frames", "1"),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_line(tmp_path, recipe, name, value, capsys):
    assert main(command(recipe, tmp_path, f"--{name}", value)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{name.replace('-', '_')}={value}" in said


def test_a_prompt_for_no_pictures_of_the_prior_is_refused(tmp_path, capsys):
    flags = ["--prompt", "a", "--prior-prompt", "b", "--prior-pictures", "0"]
    assert main(["train", "dreambooth", "--data", str(tmp_path), *flags]) == 2
    assert "prior_prompt='b' and prior_pictures=0" in capsys.readouterr().err


def test_a_weight_for_no_pictures_of_the_prior_is_refused(tmp_path, capsys):
    flags = ["--prompt", "a", "--prior-weight", "2", "--prior-pictures", "0"]
    assert main(["train", "dreambooth", "--data", str(tmp_path), *flags]) == 2
    assert "prior_weight=2.0" in capsys.readouterr().err


def test_what_is_new_must_be_named(tmp_path, capsys):
    assert main(["train", "dreambooth", "--data", str(tmp_path)]) == 2
    assert "--prompt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "flag"),
    [
        ("embedded", "data"),
        ("embedded", "stages"),
        ("upscale_a_video", "data"),
        ("upscale_a_video", "stages"),
        ("shards", "data"),
        ("frames", "data"),
        ("dreambooth", "data"),
        ("driving", "stages"),
        ("driving_x4", "stages"),
        ("video_ldm", "data"),
        ("video_ldm", "stages"),
    ],
)
def test_a_list_that_names_nothing_is_refused(tmp_path, recipe, flag, capsys):
    assert main(command(recipe, tmp_path, f"--{flag}")) == 2
    assert f"{flag} is empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "given", "instead"),
    [
        ("embedded", "decoder image", "image decoder"),
        ("upscale_a_video", "refine unet", "unet refine"),
        ("driving", "image image", "image"),
        ("driving_x4", "temporal image", "image temporal"),
        ("video_ldm", "decoder key_frames", "key_frames decoder"),
    ],
)
def test_stages_out_of_order_are_refused(tmp_path, recipe, given, instead, capsys):
    assert main(command(recipe, tmp_path, "--stages", *given.split())) == 2
    found = capsys.readouterr().err
    assert f"stages={given}: " in found
    assert f"use {instead}\n" in found
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "recipe", ["driving", "driving_x4", "motion", "shards", "embedded", "frames"]
)
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, recipe, capsys):
    (tmp_path / "out").touch()
    videos, pictures = write_videos(tmp_path / "videos", ["a"]), tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "a.png"), np.zeros((8, 8, 3), np.uint8))
    source = pictures if recipe == "frames" else videos
    data = [] if recipe.startswith("driving") else ["--data", str(source)]
    assert main(["train", recipe, *data, "--out", str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'out'}: it cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_signal_stops_behind_a_step_and_the_same_command_goes_on_exactly(
    tmp_path, monkeypatch, capsys
):
    model = tiny_words_image_model(tmp_path / "model")
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        picture = np.full((32, 32, 3), 90 * number, np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), picture)

    def run(out):
        data = ["--data", str(tmp_path / "pictures"), "--model", str(model), "--steps", "4"]
        computing = ["--num-workers", "0", "--batch-size", "8", "--out", str(tmp_path / out)]
        return main(["train", "frames", *data, *computing])

    module = import_module("legato.training.picture_stage")
    loss, calls = module.PictureTask.loss, []

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(*given)

    assert run("whole") == 0
    capsys.readouterr()
    monkeypatch.setattr(module.PictureTask, "loss", interrupted)
    assert run("parts") == 130
    said = capsys.readouterr().err.splitlines()
    assert "stopping behind this step; once more stops at once" in said
    assert said[-1].startswith("error: stopped behind step 2 of 4")
    assert said[-1].endswith("the same command goes on")
    assert not (tmp_path / "parts" / "model").exists()
    assert run("parts") == 0
    assert len(calls) == 4
    whole, parts = (
        load_file(Path(tmp_path, out, "checkpoint.safetensors")) for out in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(whole[name].equal(parts[name]) for name in whole)
