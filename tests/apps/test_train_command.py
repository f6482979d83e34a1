"""`legato train`: which recipes there are, and that flags are their options."""

import pytest
from shard_clips import write_videos

from legato.apps.arguments import parse
from legato.apps.cli import main
from legato.training.shards import Shards
from legato.training.upscaler_recipes import TrainUpscalerOptions


def test_the_recipes_are_told(capsys):
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("embedded", "upscale_a_video", "shards"))


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
