"""Both stages of the recipe at full size give more on clips that they never saw.

A tiny image upscaler is trained for a moment first, frame by frame, so that what they add is not
trivial.
"""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from clips import write_clip
from skimage import data
from tiny import tiny_diffusers_upscaler

from legato.models.load import load_upscaler
from legato.training import upscaler_recipes, upscaler_stages
from legato.training.batches import unit_range
from legato.training.shard_batches import ShardBatchOptions, ShardSamples
from legato.training.shard_sources import ShardOptions, make_shards
from legato.training.shards import Shards
from legato.training.upscaler_recipes import (
    TrainUpscalerOptions,
    train_upscale_a_video,
    upscale_a_video,
)
from legato.training.upscaler_stages import DecoderStageOptions, UnetStage, with_temporal_layers

CPU = torch.device("cpu")
FRAMES, SIZE, ZOOM = 2, 32, 1.5
LATENT_STEPS = 4
"""Fewer would end far from what the U-Net can do: nothing to decode."""


def filmed(picture, left, *, frames=8, size=64):
    """Return a camera that moves over a photograph, along its upper edge."""
    soft = cv2.GaussianBlur(picture, (0, 0), 0.4 * ZOOM)
    views = []
    for k in range(frames):
        x, y = left * picture.shape[1] + 1.3 * ZOOM * k, 0.7 * ZOOM * k
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        matrix = np.array([[ZOOM, 0, x], [0, ZOOM, y]])
        views.append(cv2.warpAffine(soft, matrix, (size, size), flags=flags))
    return np.stack(views)


def shards_of(root, parts):
    (root / "videos").mkdir(parents=True)
    for number, part in enumerate(parts):
        for k, left in enumerate((0.05, 0.3, 0.55)):
            write_clip(root / f"videos/{number}_{k}.mkv", filmed(part, left), sound=False)
    options = ShardOptions(data=(root / "videos",), out=root / "shards", frames=8, size=64)
    return make_shards(replace(options, clips_per_source=1, degrade=True))


def photographs():
    pictures = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    return [*pictures, data.stereo_motorcycle()[0], data.retina()[200:1100, 200:1100]]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Clips of the upper parts of photographs."""
    upper = [picture[: len(picture) // 2] for picture in photographs()]
    return shards_of(tmp_path_factory.mktemp("a"), upper)


@pytest.fixture(scope="module")
def held_back(tmp_path_factory):
    """Clips of their lower parts."""
    lower = [picture[len(picture) * 3 // 5 :] for picture in photographs()]
    return shards_of(tmp_path_factory.mktemp("b"), lower)


def batches(shards, count, size):
    options = ShardBatchOptions(batch_size=size, frames=1, size=SIZE, seed=9)
    samples = ShardSamples(Shards((shards,)), options)
    for step in range(count):
        chosen = [samples[step * size + k] for k in range(size)]
        yield {
            "frames": torch.stack([s["frames"] for s in chosen]),
            "low_res": torch.stack([s["low_res"] for s in chosen]),
            "caption": [s["caption"] for s in chosen],
            "number": torch.tensor([s["number"] for s in chosen]),
        }


def step_(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.fixture(scope="module")
def folder(learned, tmp_path_factory):
    """An image upscaler that has learned a little: autoencoder, then U-Net, frame by frame."""
    root = tiny_diffusers_upscaler(tmp_path_factory.mktemp("model") / "tiny")
    model = load_upscaler(str(root), CPU, torch.float32)
    vae = model.autoencoder.spatial.requires_grad_(True)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3)
    for batch in batches(learned, 30, 8):
        frames = unit_range(batch["frames"])[:, 0]
        latents = vae.encode(frames).latent_dist.mean
        step_(optimizer, (vae.decode(latents).sample - frames).abs().mean())
    vae.register_to_config(scaling_factor=1 / latents.std().item())
    vae.save_pretrained(root / "vae")
    stage = UnetStage(model, [], None, seed=5)
    stage.unet.spatial.requires_grad_(True)
    optimizer = torch.optim.AdamW(stage.unet.spatial.parameters(), lr=1e-3)
    for batch in batches(learned, 20, 8):
        step_(optimizer, stage.loss(batch, torch.Generator())[0])
    stage.unet.spatial.save_pretrained(root / "unet")
    return root


@pytest.fixture
def learn(learned, held_back, tmp_path, monkeypatch):
    """Train a stage of a model; return figures of held-back clips before and after."""
    small = {
        name: replace(
            recipe,
            trainer=replace(recipe.trainer, ema_decay=0.9, warm_up=5),
            decoder=DecoderStageOptions(adversary_width=8),
        )
        for name, recipe in upscale_a_video().items()
    }
    monkeypatch.setattr(upscaler_recipes, "upscale_a_video", lambda: small)
    monkeypatch.setattr(upscaler_stages, "VALIDATION_STEPS", LATENT_STEPS)

    def figures(model, options):
        torch.manual_seed(0)
        loaded = load_upscaler(str(model), CPU, torch.float32)
        clips = upscaler_recipes._held_back(held_back, options.recipe("unet").batch)
        fresh = with_temporal_layers(loaded, checkpointing=False)
        return UnetStage(fresh, clips, None, 0).validate()[0]

    def train(stage, model, steps):
        options = TrainUpscalerOptions(
            data=(learned,),
            held_back=held_back,
            model=str(model),
            out=tmp_path / stage,
            stages=(stage,),
            steps=steps,
            batch_size=4,
            clips_at_once=4,
            learning_rate=3e-3,
            gradient_checkpointing=False,
            frames=FRAMES,
            size=SIZE,
            num_workers=0,
            latent_steps=LATENT_STEPS,
            adversarial_start=steps - 5,
        )
        before = figures(model, options)
        return before, figures(train_upscale_a_video(options), options)

    return train


@pytest.mark.slow
def test_temporal_layers_predict_better_than_untrained_ones(learn, folder):
    untrained, trained = learn("unet", folder, 30)
    assert trained["loss"] < 0.97 * untrained["loss"]


@pytest.mark.slow
def test_the_decoder_shows_more_of_the_same_latents_than_an_untrained_one(learn, folder):
    untrained, trained = learn("decoder", folder, 40)
    assert trained["psnr"] > untrained["psnr"] + 1
