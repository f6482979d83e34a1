"""The driving recipe learns on held-back renders, exports what it learned and repeats itself."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from legato.apps.train import RECIPES
from legato.models.box_layout import BoxLayout
from legato.models.text import WordEncoder
from legato.training.driving import recipe as recipes
from legato.training.driving.data import (
    HELD_BACK_FROM,
    FrameOptions,
    LatentOptions,
    PackedFrames,
    pack_frames,
)
from legato.training.driving.export import export_driving, load_driving
from legato.training.driving.labels import VOCABULARY
from legato.training.driving.model import AUTOENCODER, UNET, DrivingModel, build_driving
from legato.training.driving.recipe import DrivingOptions, DrivingRecipe
from legato.training.driving.stages import AutoencoderOptions, AutoencoderTask, ImageTask
from legato.training.trainer import TrainerOptions

SIZE = (32, 64)
STEPS = TrainerOptions(steps=50, learning_rate=4e-3, validate_every=50, log_every=10)
RECIPE = DrivingRecipe(
    frames=FrameOptions(frames=16, frames_per_world=4, size=SIZE),
    held_back=FrameOptions(frames=6, frames_per_world=1, size=SIZE, first_seed=HELD_BACK_FROM),
    autoencoder=STEPS,
    image=STEPS,
    autoencoder_batch=4,
    weights=AutoencoderOptions(deceive_from=20),
    latents=LatentOptions(batch_size=8),
)


def tiny_model():
    torch.manual_seed(0)
    vae = AutoencoderKL(**{**AUTOENCODER, "block_out_channels": (16, 16, 32)})
    small = {
        "block_out_channels": (32, 32),
        "attention_head_dim": (1, 1),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 16,
    }
    unet = UNet2DConditionModel(**{**UNET, **small})
    return DrivingModel(unet, vae, WordEncoder(16, VOCABULARY), BoxLayout(32))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("driving")
    pack_frames(root / recipes.FRAMES, RECIPE.frames)
    pack_frames(root / recipes.HELD_BACK, RECIPE.held_back)
    return root


def test_packed_frames_carry_their_words_and_boxes(rendered):
    packed = PackedFrames(rendered / recipes.FRAMES)
    assert packed.frames.shape == (16, *SIZE, 3)
    words = [VOCABULARY[t - 1] for t in packed.words[0] if t]
    assert len(words) == 4
    boxes = packed.boxes[packed.boxes[..., 0] >= 0]
    assert len(boxes) > 0
    assert (boxes[:, 2] > boxes[:, 0]).all()


def test_rendering_is_not_repeated(rendered):
    before = (rendered / recipes.FRAMES / "frames.npy").stat().st_mtime_ns
    pack_frames(rendered / recipes.FRAMES, RECIPE.frames)
    assert (rendered / recipes.FRAMES / "frames.npy").stat().st_mtime_ns == before


def test_a_batch_depends_on_its_number_only(rendered):
    packed = PackedFrames(rendered / recipes.FRAMES)
    row = packed.crops(0, batch_size=2, size=16, seed=1)
    third = [next(row) for _ in range(4)][3]
    again = next(packed.crops(3, batch_size=2, size=16, seed=1))
    assert torch.equal(third["frames"], again["frames"])


def test_words_and_layouts_are_dropped_as_often_as_asked(rendered):
    packed = PackedFrames(rendered / recipes.FRAMES)
    np.save(packed.folder / "latents.npy", np.zeros((16, 4, 8, 16), np.float16))
    options = LatentOptions(batch_size=600, word_dropout=0.2, layout_dropout=0.5)
    batch = next(packed.latents(0, options))
    (packed.folder / "latents.npy").unlink()
    assert (batch["layout"][:, 2].amax(dim=(1, 2)) == 0).float().mean().item() == pytest.approx(
        0.5, abs=0.08
    )
    kept = (batch["words"] > 0).float().sum(dim=1)
    assert (kept == 0).float().mean().item() == pytest.approx(0.2, abs=0.06)
    assert kept.max() == 4


def test_the_models_fit_their_budget():
    with torch.device("meta"):
        model = build_driving()
    counts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    assert 5e6 < counts["unet"] < 7e6
    assert 1e6 < counts["vae"] < 3e6
    assert 2 * sum(counts.values()) < 16e6  # bytes in half precision


def test_the_command_line_knows_the_recipe():
    _, module, options, function = RECIPES["driving"]
    assert module == recipes.__name__
    assert hasattr(recipes, function)
    chosen = getattr(recipes, options)(steps=7, frames=9).recipe()
    assert (chosen.autoencoder.steps, chosen.image.steps, chosen.frames.frames) == (7, 7, 9)


def test_samples_follow_the_noise_and_the_guidance():
    model = tiny_model().eval()
    noise = torch.randn(1, 4, 8, 16)
    words = model.words.tokens(["night"])[None]
    layout = torch.zeros(1, 3, 8, 16)
    plain, again, strong = (
        model.sample(noise, words, layout, num_inference_steps=3, guidance_scale=g)
        for g in (1.0, 1.0, 4.0)
    )
    assert torch.equal(plain, again)
    assert not torch.allclose(plain, strong)


@pytest.mark.slow
def test_both_stages_beat_an_untrained_copy_on_unseen_renders(rendered, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "CROP", 32)
    model, options = tiny_model(), DrivingOptions(out=rendered)
    untrained = copy.deepcopy(model)
    log: list[str] = []
    assert recipes.run_stage(model, "autoencoder", RECIPE, None, options, log.append)
    held_back = PackedFrames(rendered / recipes.HELD_BACK)
    whole = recipes.whole_frames(held_back)
    with torch.no_grad():
        psnr = [
            AutoencoderTask(m, None, whole, RECIPE.weights).validate()[0]["psnr"]
            for m in (model, untrained)
        ]
    assert psnr[0] > psnr[1] + 2
    untrained.vae = copy.deepcopy(model.vae)
    latents = recipes.held_back_latents(model, held_back)["latents"]
    assert latents.std().item() == pytest.approx(1, abs=0.02)
    assert recipes.run_stage(model, "image", RECIPE, None, options, log.append)
    batch = recipes.held_back_latents(model, held_back)
    with torch.no_grad():
        v = [ImageTask(m, batch).validate()[0]["v"] for m in (model, untrained)]
    assert v[0] < 0.85 * v[1]
    assert (rendered / "image" / "grid_000050.png").exists()

    folder = export_driving(model, tmp_path / "model")
    loaded = load_driving(folder)
    arguments = (
        batch["latents"][:2],
        torch.tensor([3, 900]),
        batch["words"][:2],
        batch["layout"][:2],
    )
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.predict(*arguments), model.predict(*arguments), atol=0.02, rtol=0.02
        )
        decoded = [m.decode(batch["latents"][:2]) for m in (loaded, model)]
    torch.testing.assert_close(*decoded, atol=0.02, rtol=0.02)
    again = replace(RECIPE)
    assert recipes.run_stage(loaded, "image", again, None, options, log.append)
