"""Folders of generating models: whole, in parts, and damaged."""

import json

import pytest
import torch
from tiny import tiny_upscaler_folder
from tiny_generator import tiny_generator_folder, tiny_parts

from legato.errors import ModelError
from legato.models.generator_folder import load_generator
from legato.models.load import load_upscaler
from legato.models.manifest import SHARES, GeneratorDefaults, Manifest, UpscalerDefaults

CPU, FULL = torch.device("cpu"), torch.float32


@pytest.mark.parametrize("interpolation", ["shared", "own", "none"])
def test_a_folder_gives_back_what_was_saved(tmp_path, interpolation):
    root = tiny_generator_folder(tmp_path / "m", interpolation=interpolation)
    model = load_generator(str(root), CPU, FULL)
    assert (model.interpolation is None) is (interpolation == "none")
    assert (root / "interpolation" / "unet").exists() is (interpolation == "own")
    assert model.interpolation_is_own is (interpolation == "own")
    if model.interpolation is not None:
        shares = model.interpolation.spatial is model.unet.spatial
        assert shares is (interpolation == "shared")
    saved = tiny_parts(interpolation=interpolation).unet
    for mine, theirs in zip(model.unet.parameters(), saved.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert model.predicts


def test_models_that_share_an_image_model_do_not_disturb_each_other(tmp_path):
    model = load_generator(str(tiny_generator_folder(tmp_path / "m")), CPU, FULL)
    inputs = torch.randn(1, 3, 4, 4, 4), 500, torch.randn(1, 8, 16)
    alone = model.unet(*inputs)
    between = model.interpolation(*inputs)
    assert not torch.equal(alone, between)
    assert torch.equal(model.unet(*inputs), alone)


def test_a_manifest_of_a_generating_model_survives_json():
    manifest = Manifest(
        name="a",
        family="video_ldm",
        licence="b",
        job="generate",
        defaults=GeneratorDefaults(key_frame_rate=7.5, window=5),
        sha256={"x": "y"},
    )
    assert Manifest.from_values(json.loads(manifest.to_json())) == manifest


def test_an_unknown_start_of_the_frames_between_is_refused():
    manifest = Manifest(
        name="x", family="video_ldm", licence="none", job="generate", defaults=GeneratorDefaults()
    )
    values = json.loads(manifest.to_json())
    values["defaults"]["interpolation_start"] = "x"
    with pytest.raises(ModelError, match="interpolation_start"):
        Manifest.from_values(values)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize("name", SHARES)
def test_a_share_out_of_range_is_refused(name, value):
    generates = name in vars(GeneratorDefaults())
    job, defaults = (
        ("generate", GeneratorDefaults()) if generates else ("upscale", UpscalerDefaults())
    )
    manifest = Manifest(name="x", family="video_ldm", licence="none", job=job, defaults=defaults)
    values = json.loads(manifest.to_json())
    values["defaults"][name] = value
    with pytest.raises(ModelError, match=name):
        Manifest.from_values(values)


def test_jobs_are_not_mixed_up(tmp_path):
    generator = tiny_generator_folder(tmp_path / "g", interpolation="none")
    upscaler = tiny_upscaler_folder(tmp_path / "u")
    with pytest.raises(ModelError, match="made to generate"):
        load_upscaler(str(generator), CPU, FULL)
    with pytest.raises(ModelError, match="made to upscale"):
        load_generator(str(upscaler), CPU, FULL)


@pytest.mark.parametrize("part", ["unet", "temporal", "vae", "scheduler"])
def test_a_missing_part_is_named_in_one_line(tmp_path, part):
    root = tiny_generator_folder(tmp_path / "m", interpolation="none")
    for file in (root / part).iterdir():
        file.unlink()
    with pytest.raises(ModelError, match=part) as error:
        load_generator(str(root), CPU, FULL)
    assert "\n" not in str(error.value)
