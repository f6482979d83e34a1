"""A folder of training continues the run that it holds, and no other."""

import json
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from test_motion_recipe import moving_stripes
from tiny import tiny_diffusers_upscaler
from tiny_generator import tiny_generator_folder
from tiny_image_model import tiny_words_image_model

from legato.errors import InputError, LegatoError
from legato.models.manifest import MANIFEST
from legato.training.driving.recipe import DrivingOptions, train_driving
from legato.training.driving.upsampler import UpsamplerOptions, train_upsampler
from legato.training.image_recipes import (
    DreamBoothOptions,
    TuneOptions,
    train_dreambooth,
    train_frames,
)
from legato.training.motion_recipe import MotionOptions, train_motion
from legato.training.recipes import TrainOptions, train_embedded
from legato.training.run_record import RECORD, begin_run
from legato.training.trainer import CHECKPOINT
from legato.training.upscaler_recipes import TrainUpscalerOptions, train_upscale_a_video
from legato.video.images import encode_image


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of every kind of value that a recipe takes."""

    data: tuple[Path, ...]
    model: str
    out: Path
    prompt: str = "day"
    weights: Path | None = None
    steps: int = 1
    max_minutes: float | None = None
    num_workers: int = 1
    validate_every: int = 5


@pytest.fixture
def options(tmp_path):
    for name in ("data", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "a.txt").write_text("a cat")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"1234")
    return Options(
        data=(tmp_path / "data",), model=str(tmp_path / "model"), out=tmp_path / "runs" / "one"
    )


@pytest.fixture
def begun(options):
    begin(options)
    (options.out / "checkpoint.safetensors").write_bytes(b"work")
    return options


def begin(options, recipe="motion"):
    lines = []
    begin_run(recipe, options, lines.append)
    return lines


def test_the_same_run_goes_on_and_may_be_longer(begun):
    before = (begun.out / RECORD).read_bytes()
    begin(replace(begun, steps=9, max_minutes=2.0, num_workers=0, validate_every=1))
    assert (begun.out / RECORD).read_bytes() == before


def test_another_run_is_refused_in_one_line_that_says_where_it_differs(begun):
    with pytest.raises(InputError, match=r"--prompt night, was day; name another") as found:
        begin(replace(begun, prompt="night"))
    assert "\n" not in str(found.value)
    with pytest.raises(InputError, match="recipe frames, was motion"):
        begin(begun, "frames")


def test_an_option_that_is_newer_than_the_record_was_as_its_default_is(begun):
    record = begun.out / RECORD
    saved = json.loads(record.read_text())
    del saved["prompt"]
    record.write_text(json.dumps(saved))
    begin(begun)
    with pytest.raises(InputError, match="--prompt night, was day"):
        begin(replace(begun, prompt="night"))


@pytest.mark.parametrize("change", ["more", "other text", "other name"])
def test_other_data_under_the_same_path_is_another_run(begun, change):
    file = begun.data[0] / "a.txt"
    if change == "more":
        (begun.data[0] / "b.txt").write_text("")
    elif change == "other text":
        file.write_text("a dog")
    else:
        file.rename(file.with_name("b.txt"))
    with pytest.raises(InputError, match=r"--data 'data \(.*\)', was 'data \(1 files, 5 bytes"):
        begin(begun)


def test_data_that_was_moved_is_the_same(begun, tmp_path):
    moved = tmp_path / "elsewhere" / "data"
    moved.parent.mkdir()
    begun.data[0].rename(moved)
    begin(replace(begun, data=(moved,)))


def test_the_caption_beside_a_clip_counts(options, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"video")
    options = replace(options, data=(clip,))
    begin(options)
    (options.out / "log.csv").write_text("step\n1\n")
    clip.with_suffix(".txt").write_text("a cat")
    with pytest.raises(InputError, match=r"clip\.mp4 \(2 files"):
        begin(options)


def test_a_run_inside_its_data_does_not_count_as_data(options):
    options = replace(options, out=options.data[0] / "run")
    begin(options)
    (options.out / "checkpoint.safetensors").write_bytes(b"work")
    begin(options)


@pytest.mark.parametrize("has_manifest", [False, True])
def test_other_weights_under_the_same_name_are_another_run(options, has_manifest):
    file = Path(options.model) / (MANIFEST if has_manifest else "weights.safetensors")
    file.write_bytes(b"1234")
    begin(options)
    (options.out / "checkpoint.safetensors").write_bytes(b"work")
    os.utime(file, (1, 1))
    if has_manifest:
        begin(options)  # the model was installed again
    file.write_bytes(b"4321")
    with pytest.raises(InputError, match="what --model names has changed"):
        begin(options)


def test_a_path_that_is_not_there_is_no_run(options, tmp_path):
    missing = tmp_path / "tyop"
    for change in ({"data": (*options.data, missing)}, {"weights": missing}):
        with pytest.raises(InputError, match=r"tyop: no such file or folder; check"):
            begin(replace(options, **change))
    assert not options.out.exists()


def test_a_run_may_be_validated_on_other_clips(tmp_path):
    data, held_back = (tmp_path / name for name in ("data", "held_back"))
    for folder in (data, held_back):
        folder.mkdir()
    options = TuneOptions(data=(data,), held_back=held_back, out=tmp_path / "run")
    begin(options, "frames")
    record = options.out / RECORD
    assert "held_back" not in record.read_text()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"held_back": "of before"}))
    (options.out / CHECKPOINT).write_bytes(b"work")
    begin(replace(options, held_back=None), "frames")


def test_a_run_that_made_nothing_binds_nobody(options):
    begin(options)
    begin(replace(options, prompt="night"))
    (options.out / "prior.safetensors").write_bytes(b"work")
    with pytest.raises(InputError, match="--prompt day, was night"):
        begin(options)


def test_work_without_a_record_is_taken_over_and_said(begun):
    (begun.out / RECORD).unlink()
    assert "run.json is missing" in begin(begun)[0]
    assert begin(begun) == []


def test_a_damaged_record_is_named(begun):
    (begun.out / RECORD).write_text("[")
    with pytest.raises(InputError, match=r"run\.json: not the record of a run"):
        begin(begun)


@pytest.mark.skipif(os.name == "nt", reason="names there are text")
def test_names_that_are_no_text_are_recorded(options):
    folder = Path(os.fsdecode(os.fsencode(options.data[0]) + b"\xff"))
    options.data[0].rename(folder)
    options = replace(options, data=(folder,))
    begin(options)
    (options.out / "checkpoint.safetensors").write_bytes(b"work")
    begin(options)


def test_motion_of_another_clip_or_rank_is_not_taken_from_the_folder(tmp_path):
    model = tiny_generator_folder(tmp_path / "model", interpolation="none")
    moving_stripes(tmp_path / "clips", range(2))
    options = MotionOptions(
        data=tmp_path / "clips" / "0", model=str(model), out=tmp_path / "run", fps=2.0, steps=1
    )
    learned = load_file(train_motion(options))
    for change in ({"data": tmp_path / "clips" / "1"}, {"rank": 4}, {"prompt": "night"}):
        name = next(iter(change))
        with pytest.raises(InputError, match=f"holds a run that differs: --{name} .*, was"):
            train_motion(replace(options, **change))
    longer = load_file(train_motion(replace(options, steps=2)))
    assert any(not longer[name].equal(learned[name]) for name in learned)


def start(recipe, folder, given):
    """Start a recipe with the tiny model that it takes."""
    match recipe:
        case "embedded":
            train_embedded(TrainOptions(**given))
        case "upscale_a_video":
            model = str(tiny_diffusers_upscaler(folder / "model"))
            options = TrainUpscalerOptions(**given, held_back=given["data"][0], model=model)
            train_upscale_a_video(options)
        case "frames":
            model = str(tiny_words_image_model(folder / "model"))
            train_frames(TuneOptions(**given, model=model))
        case "dreambooth":
            model = str(tiny_words_image_model(folder / "model"))
            train_dreambooth(DreamBoothOptions(**given, model=model, prompt="sepia"))
        case "driving":
            train_driving(DrivingOptions(out=given["out"]))
        case "driving_x4":
            train_upsampler(UpsamplerOptions(out=given["out"]))


@pytest.mark.parametrize(
    "recipe", ["embedded", "upscale_a_video", "frames", "dreambooth", "driving", "driving_x4"]
)
def test_every_recipe_refuses_another_run_before_it_works(recipe, tmp_path):
    out, pictures = tmp_path / "run", tmp_path / "pictures"
    for folder in (out, pictures):
        folder.mkdir()
    (out / RECORD).write_text('{"recipe": "another"}')
    (out / "prior.safetensors").write_bytes(b"work")
    picture = encode_image(np.zeros((32, 32, 3), np.uint8), None, ".png")
    (pictures / "1.png").write_bytes(picture)
    with pytest.raises(InputError, match=f"recipe {recipe}, was another; name"):
        start(recipe, tmp_path, {"data": (pictures,), "out": out})
    assert {path.name for path in out.iterdir()} == {RECORD, "prior.safetensors"}


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        ("embedded", "lpips_weights"),
        ("upscale_a_video", "refine_data"),
        ("frames", "held_back"),
        ("dreambooth", "held_back"),
    ],
)
def test_what_later_stages_need_is_looked_for_before_the_first(recipe, option, tmp_path):
    pictures, missing = tmp_path / "pictures", tmp_path / "tyop"
    pictures.mkdir()
    picture = encode_image(np.zeros((32, 32, 3), np.uint8), None, ".png")
    (pictures / "1.png").write_bytes(picture)
    given = {option: (missing,) if option == "refine_data" else missing}
    with pytest.raises(LegatoError, match="tyop") as found:
        start(recipe, tmp_path, {"data": (pictures,), "out": tmp_path / "run"} | given)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run").exists()


def test_a_stage_of_the_run_is_not_passed_over(tmp_path):
    options = DrivingOptions(out=tmp_path, stages=("autoencoder", "image"))
    begin(options, "driving")
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / CHECKPOINT).write_bytes(b"work")
    begin(options, "driving")
    begin(replace(options, stages=("autoencoder",)), "driving")
    with pytest.raises(InputError, match=r"stages=decoder.*holds the stage image") as found:
        begin(replace(options, stages=("decoder",)), "driving")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("recipe", "options", "stage"),
    [
        ("driving", DrivingOptions, "key_frames"),
        ("driving_x4", UpsamplerOptions, "temporal"),
        ("embedded", partial(TrainOptions, data=(Path("data"),)), "temporal"),
    ],
)
def test_a_later_stage_needs_something_to_go_on_from(recipe, options, stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    chosen = options(out=tmp_path / "run", stages=(stage,))
    with pytest.raises(InputError, match=rf"stages={stage}.*random numbers.*--warm-start"):
        begin(chosen, recipe)
    assert not (tmp_path / "run").exists()
    begin(replace(chosen, warm_start="embedded-x4"), recipe)
