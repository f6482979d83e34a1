"""Image models of both layouts load; what is not one is refused in one line."""

import json

import pytest
import torch
from tiny import tiny_diffusers_upscaler, tiny_upscaler_folder
from tiny_generator import tiny_generator_folder
from tiny_image_model import tiny_diffusers_image_model, tiny_words_image_model

from legato.errors import InputError, ModelError
from legato.models.image_model import load_image_model

CPU, FLOAT = torch.device("cpu"), torch.float32
LAYOUTS = {"diffusers": tiny_diffusers_image_model, "words": tiny_words_image_model}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_layouts_encode_denoise_and_decode(layout, tmp_path):
    model = load_image_model(str(LAYOUTS[layout](tmp_path / "m")), CPU, FLOAT)
    frames = torch.rand(1, 2, 3, 32, 40) * 2 - 1
    latents = model.encode(frames)
    assert latents.shape == (1, 2, 4, 8, 10)
    text = model.encode_prompt("night")
    with torch.no_grad():
        predicted = model.unet(latents, torch.tensor([3]), text)
    assert predicted.shape == latents.shape
    assert model.decode(predicted).shape == frames.shape
    assert (model.short_side, model.multiple, model.scale) == (32, 8, 4)


def test_of_a_generating_model_the_image_model_is_taken(tmp_path):
    root = tiny_generator_folder(tmp_path / "g")
    model = load_image_model(str(root), CPU, FLOAT)
    assert not model.unet.is_temporal
    assert not model.autoencoder.is_temporal


def test_a_closed_vocabulary_refuses_other_words(tmp_path):
    model = load_image_model(str(tiny_words_image_model(tmp_path / "m")), CPU, FLOAT)
    with pytest.raises(InputError, match="day, night, empty, crowded"):
        model.encode_prompt("sunrise")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (tiny_upscaler_folder, "made to upscale"),
        (tiny_diffusers_upscaler, "input channels are 7"),
        (lambda root: tiny_words_image_model(root, job="upscale"), "made to upscale"),
        (lambda root: root, "neither a known name nor a folder"),
    ],
)
def test_what_is_no_image_model_is_refused(make, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        load_image_model(str(make(tmp_path / "m")), CPU, FLOAT)


@pytest.mark.parametrize(
    "config",
    [
        {"scaling_factor": None},
        {"scaling_factor": 0},
        {"scaling_factor": "1"},
        {"shift_factor": 0.1},
        {"latents_mean": [0.0] * 4},
        {"latents_std": [2.0] * 4},
    ],
)
def test_latents_that_are_scaled_otherwise_are_refused(config, tmp_path):
    root = tiny_diffusers_image_model(tmp_path / "m")
    path = root / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(ModelError, match=rf"vae.config\.json has {next(iter(config))}="):
        load_image_model(str(root), CPU, FLOAT)


def test_a_missing_part_is_named(tmp_path):
    root = tiny_diffusers_image_model(tmp_path / "m")
    (root / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="vae"):
        load_image_model(str(root), CPU, FLOAT)
