"""LoRA weights are merged as the equation says, whichever trainer named them."""

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_unet

from legato.errors import InputError, ModelError
from legato.models.lora import add_lora_

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
RANK = 2


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


DOWN, UP = draw(RANK, 64), draw(64, RANK)
NAMINGS = {
    "peft": (f"unet.{LAYER}.lora_A.weight", f"unet.{LAYER}.lora_B.weight"),
    "saved by peft": (
        f"base_model.model.{LAYER}.lora_A.weight",
        f"base_model.model.{LAYER}.lora_B.weight",
    ),
    "diffusers": (
        f"unet.{LAYER.removesuffix('.to_q')}.processor.to_q_lora.down.weight",
        f"unet.{LAYER.removesuffix('.to_q')}.processor.to_q_lora.up.weight",
    ),
    "kohya": (
        f"lora_unet_{LAYER.replace('.', '_')}.lora_down.weight",
        f"lora_unet_{LAYER.replace('.', '_')}.lora_up.weight",
    ),
}


def saved(tmp_path, tensors):
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("naming", NAMINGS)
def test_each_naming_adds_the_product_to_the_same_layer(naming, tmp_path):
    unet, plain = tiny_unet(), tiny_unet()
    down, up = NAMINGS[naming]
    assert add_lora_(unet, saved(tmp_path, {down: DOWN, up: UP}), scale=0.5) == []
    before, after = dict(plain.named_parameters()), dict(unet.named_parameters())
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == [f"{LAYER}.weight"]
    expected = before[changed[0]] + 0.5 * UP @ DOWN
    assert torch.allclose(after[changed[0]], expected, atol=1e-5)


def test_alpha_over_rank_scales(tmp_path):
    unet, plain = tiny_unet(), tiny_unet()
    down, up = NAMINGS["kohya"]
    alpha = down.replace(".lora_down.weight", ".alpha")
    add_lora_(unet, saved(tmp_path, {down: DOWN, up: UP, alpha: torch.tensor(1.0)}), scale=1.0)
    change = (unet.get_submodule(LAYER).weight - plain.get_submodule(LAYER).weight).detach()
    assert torch.allclose(change, UP @ DOWN / RANK, atol=1e-5)


def test_convolutions_are_merged(tmp_path):
    unet, plain = tiny_unet(), tiny_unet()
    down, up = draw(RANK, 32, 3, 3), draw(32, RANK, 1, 1)
    names = (f"unet.{CONV}.lora_A.weight", f"unet.{CONV}.lora_B.weight")
    add_lora_(unet, saved(tmp_path, dict(zip(names, (down, up), strict=True))), scale=1.0)
    x = draw(1, 32, 5, 5)
    two = torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, down, padding=1), up)
    expected = plain.get_submodule(CONV)(x) + two
    assert torch.allclose(unet.get_submodule(CONV)(x), expected, atol=1e-4)


def test_the_output_projection_is_found_under_its_old_name(tmp_path):
    unet, plain = tiny_unet(), tiny_unet()
    old = f"unet.{OUT.removesuffix('.to_out.0')}.processor.to_out_lora"
    tensors = {f"{old}.down.weight": DOWN, f"{old}.up.weight": UP}
    add_lora_(unet, saved(tmp_path, tensors), scale=1.0)
    assert not torch.equal(unet.get_submodule(OUT).weight, plain.get_submodule(OUT).weight)


def test_weights_of_a_text_encoder_are_left_out_with_a_notice(tmp_path):
    down, up = NAMINGS["peft"]
    text = {"text_encoder.layer.lora_A.weight": DOWN.clone()}
    said = add_lora_(tiny_unet(), saved(tmp_path, {down: DOWN, up: UP, **text}), scale=1.0)
    assert said == ["lora.safetensors: its weights for the text encoder are left out"]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"unet.nowhere.lora_A.weight": DOWN, "unet.nowhere.lora_B.weight": UP}, "no such layer"),
        (
            {NAMINGS["peft"][0]: draw(RANK, 32), NAMINGS["peft"][1]: UP},
            "another width",
        ),
        ({NAMINGS["peft"][0]: DOWN}, "not understood"),
        ({"something.else": DOWN}, "not understood"),
        ({"text_encoder.layer.lora_A.weight": DOWN}, "no weights of a U-Net"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, tensors, said):
    with pytest.raises(ModelError, match=said):
        add_lora_(tiny_unet(), saved(tmp_path, tensors), scale=1.0)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        add_lora_(tiny_unet(), tmp_path / "nowhere.safetensors", scale=1.0)
