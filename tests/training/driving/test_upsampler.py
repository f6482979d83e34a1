"""The driving upsampler learns on held-back renders, exports what it learned and enlarges."""

import copy
import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from clips import write_clip
from tiny_generator import tiny_generator_folder

from legato.errors import InputError, ModelError
from legato.models.generator_folder import load_generator
from legato.models.load import load_upscaler
from legato.pipelines.restore_options import RestoreOptions
from legato.pipelines.upscale import upscale
from legato.pipelines.upscale_options import UpscaleOptions
from legato.training.driving import upsampler as recipes
from legato.training.driving.clips import HELD_BACK_FROM
from legato.training.driving.upsampler import (
    FRAMES,
    MANIFEST,
    LargeClipOptions,
    LargeClips,
    UpsamplerOptions,
    UpsamplerRecipe,
    build_upsampler,
    export_upsampler,
    large_size,
    load_upsampler,
    render_large,
    set_residual_scale_,
    train_upsampler,
)
from legato.training.pixel_stage import PixelTask
from legato.training.trainer import TrainerOptions
from legato.video.codecs import CodecOptions
from legato.video.probe import probe

SIZE = (64, 128)
STEPS = TrainerOptions(
    steps=150, learning_rate=4e-3, warm_up=10, validate_every=150, log_every=20, ema_decay=0.9
)
RECIPE = UpsamplerRecipe(
    clips=LargeClipOptions(clips=6, size=SIZE),
    held_back=LargeClipOptions(clips=2, size=SIZE, first_seed=HELD_BACK_FROM),
    trainers={
        "image": STEPS,
        "temporal": replace(STEPS, steps=400, validate_every=400, learning_rate=1e-3),
    },
    batch_sizes={"image": 8, "temporal": 4},
)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    folder = tiny_generator_folder(tmp_path_factory.mktemp("generator") / "tiny")
    return load_generator(str(folder), torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, generator):
    root = tmp_path_factory.mktemp("large")
    parts = (("clips", RECIPE.clips), ("held_back", RECIPE.held_back))
    return tuple(LargeClips(render_large(root / name, part, generator)) for name, part in parts)


@pytest.fixture
def small(monkeypatch):
    """Make patches and the network small."""
    monkeypatch.setattr(recipes, "PATCH", 8)
    narrow = {"block_out_channels": (16, 16)}
    monkeypatch.setattr(recipes, "UNET", {**recipes.UNET, **narrow})


def system():
    torch.manual_seed(0)
    return build_upsampler()


def test_small_frames_are_the_means_of_the_large_ones(rendered):
    learning, _ = rendered
    assert learning.frames.shape == (6, FRAMES, *SIZE, 3)
    assert learning.small.shape == (6, 2, FRAMES, SIZE[0] // 4, SIZE[1] // 4, 3)
    large = learning.frames[0].astype(np.float32)
    means = large.reshape(FRAMES, SIZE[0] // 4, 4, SIZE[1] // 4, 4, 3).mean(axis=(2, 4))
    assert np.abs(means - learning.small[0, 0]).max() <= 1


def test_small_frames_of_another_model_are_made_anew(rendered, generator, tmp_path):
    before = rendered[1]
    for name in ("frames", "small"):
        np.save(tmp_path / f"{name}.npy", getattr(before, name))
    large, small = (tmp_path / f"{name}.npy" for name in ("frames", "small"))
    written = small.stat().st_mtime_ns
    render_large(tmp_path, RECIPE.held_back, generator)
    assert small.stat().st_mtime_ns == written
    darker = replace(generator, autoencoder=copy.deepcopy(generator.autoencoder))
    with torch.no_grad():
        for parameter in darker.autoencoder.parameters():
            parameter *= 0.5
    rendering = large.stat().st_mtime_ns
    after = LargeClips(render_large(tmp_path, RECIPE.held_back, darker))
    assert large.stat().st_mtime_ns == rendering
    assert np.array_equal(after.small[:, 0], before.small[:, 0])
    assert not np.array_equal(after.small[:, 1], before.small[:, 1])


@pytest.mark.parametrize("frames", [1, FRAMES])
def test_patches_depend_on_their_number_only(rendered, frames, small):
    learning, _ = rendered
    row = learning.patches(0, batch_size=3, frames=frames, seed=1)
    third = [next(row) for _ in range(3)][2]
    again = next(learning.patches(2, batch_size=3, frames=frames, seed=1))
    assert all(torch.equal(third[name], again[name]) for name in third)
    assert third["frames"].shape == (3, frames, 3, 32, 32)
    assert third["low_res"].shape == (3, frames, 3, 8, 8)


def test_some_patches_are_plain_and_some_went_through_the_autoencoder(rendered, small):
    learning, _ = rendered
    batch = next(learning.patches(0, batch_size=24, frames=1, seed=0))
    means = torch.nn.functional.avg_pool2d(batch["frames"][:, 0].float(), 4)
    far = (means - batch["low_res"][:, 0].float()).abs().amax(dim=(1, 2, 3)) > 1
    assert 4 < far.sum() < 20


def test_residuals_are_scaled_to_a_deviation_of_one(rendered, small):
    made, (learning, _) = system(), rendered
    set_residual_scale_(made, learning)
    batch = next(learning.patches(0, batch_size=64, frames=1, seed=8))
    values = [batch[name].float() / 127.5 - 1 for name in ("frames", "low_res")]
    assert made.residual.encode(*values).std().item() == pytest.approx(1, abs=0.2)


def test_a_stage_trains_its_own_layers_alone():
    made = system()
    for stage, learning in (("image", made.unet.spatial), ("temporal", made.unet.temporal)):
        task = PixelTask(made, stage, [])
        trained = {id(p) for p in made.parameters() if p.requires_grad}
        assert trained == {id(p) for p in learning.parameters()}
        assert {id(p) for p in task.module.parameters()} == trained


def test_the_model_fits_its_budget():
    made = build_upsampler()
    assert 2 * sum(p.numel() for p in made.parameters()) < 2.2e6  # bytes in half precision


def test_it_takes_no_words():
    with pytest.raises(InputError, match="knows no words; leave the prompt out"):
        build_upsampler().words.encode("night")


def test_an_upsampler_of_another_kind_is_no_start():
    with pytest.raises(ModelError, match="no model of pixels"):
        load_upsampler("embedded-x4")


def test_numbers_that_are_chosen_replace_those_of_the_recipe():
    recipe = UpsamplerOptions(steps=7, clips=9, batch_scale=2).recipe()
    assert {trainer.steps for trainer in recipe.trainers.values()} == {7}
    assert recipe.clips.clips == 9
    assert recipe.batch_sizes == {"image": 40, "temporal": 8}


@pytest.mark.parametrize("wrong", [{"batch_scale": 0}, {"steps": 0}, {"stages": ()}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        UpsamplerOptions(**wrong)


@pytest.mark.parametrize("changes", [{}, {"strength": 0.5, "solver": "unipc"}])
def test_an_exported_model_enlarges_a_video(tmp_path, small, changes):
    folder = export_upsampler(system(), tmp_path / "model")
    loaded = load_upscaler(str(folder), torch.device("cpu"), torch.float32)
    assert loaded.defaults == MANIFEST.upscaling
    source = tmp_path / "in.mkv"
    write_clip(
        source, np.random.default_rng(0).integers(0, 255, (10, 24, 32, 3), np.uint8), sound=True
    )
    options = UpscaleOptions(
        model=str(folder),
        segment=4,
        restore=RestoreOptions(num_inference_steps=6, **changes),
        output=CodecOptions(codec="ffv1"),
    )
    report = upscale(source, tmp_path / "out.mkv", options)
    assert report.frames_out == 10
    made = probe(tmp_path / "out.mkv")
    assert (made.width, made.height) == (128, 96)


def test_clips_are_rendered_for_the_size_of_the_model(generator, small, tmp_path):
    made = generator.defaults
    options = UpsamplerOptions(out=tmp_path, model=str(generator.root), clips=1, steps=1)
    train_upsampler(options)
    for part in ("clips", "held_back"):
        large = np.load(tmp_path / part / "frames.npy", mmap_mode="r")
        assert large.shape[2:4] == (4 * made.height, 4 * made.width)


@pytest.mark.parametrize(("height", "width"), [(8, 64), (64, 24), (256, 512)])
def test_models_of_sizes_that_cannot_be_rendered_are_refused(generator, height, width):
    odd = replace(generator, defaults=replace(generator.defaults, height=height, width=width))
    with pytest.raises(ModelError, match=f"makes frames of {width}x{height} pixels: .* --model"):
        large_size(odd)


@pytest.mark.slow
def test_both_stages_beat_an_untrained_copy_on_unseen_renders(rendered, small, tmp_path):
    made, (learning, held_back) = system(), rendered
    set_residual_scale_(made, learning)
    options, log = UpsamplerOptions(out=tmp_path), []

    def run(name):
        assert recipes.run_stage(made, name, RECIPE, rendered, options, log.append)
        with (tmp_path / name / "validation.csv").open() as file:
            return {k: float(v) for k, v in list(csv.DictReader(file))[-1].items()}

    untrained = copy.deepcopy(made)
    before, _ = PixelTask(untrained, "image", held_back.whole(1)).validate()
    after = run("image")
    assert all(after[f"v_{t}"] < 0.95 * before[f"v_{t}"] for t in (0.5, 0.8))
    fresh = copy.deepcopy(made)
    before, _ = PixelTask(fresh, "temporal", held_back.whole(FRAMES)).validate()
    after = run("temporal")
    assert after["v_0.8"] < 0.99 * before["v_0.8"]

    loaded = load_upsampler(str(export_upsampler(made, tmp_path / "model")))
    batch = held_back.whole(FRAMES)[0]
    made.unet.enabled = True
    pictures = [PixelTask(s, "temporal", []).upscale(batch) for s in (made, loaded)]
    torch.testing.assert_close(*pictures, atol=0.02, rtol=0.02)
