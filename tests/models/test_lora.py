"""LoRA weights are merged as the equation says, whichever trainer named them."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import TEXT_WIDTH, tiny_clip_text, tiny_unet

from legato.errors import InputError, ModelError
from legato.models.lora import add_lora_, with_new_block_names
from legato.models.text_encoder import ClipText

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
RANK = 2
CPU = torch.device("cpu")


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

KOHYA_ALPHA = NAMINGS["kohya"][0].replace(".lora_down.weight", ".alpha")


def saved(tmp_path, tensors):
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("naming", NAMINGS)
def test_each_naming_adds_the_product_to_the_same_layer(naming, tmp_path):
    unet, plain = tiny_unet(), tiny_unet()
    down, up = NAMINGS[naming]
    add_lora_(unet, (), saved(tmp_path, {down: DOWN, up: UP}), scale=0.5)
    before, after = dict(plain.named_parameters()), dict(unet.named_parameters())
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == [f"{LAYER}.weight"]
    expected = before[changed[0]] + 0.5 * UP @ DOWN
    assert torch.allclose(after[changed[0]], expected, atol=1e-5)


def test_alpha_over_rank_scales(tmp_path):
    unet, plain = tiny_unet(), tiny_unet()
    down, up = NAMINGS["kohya"]
    alpha = down.replace(".lora_down.weight", ".alpha")
    path = saved(tmp_path, {down: DOWN, up: UP, alpha: torch.tensor(1.0)})
    add_lora_(unet, (), path, scale=1.0)
    change = (unet.get_submodule(LAYER).weight - plain.get_submodule(LAYER).weight).detach()
    assert torch.allclose(change, UP @ DOWN / RANK, atol=1e-5)


def test_convolutions_are_merged(tmp_path):
    unet, plain = tiny_unet(), tiny_unet()
    down, up = draw(RANK, 32, 3, 3), draw(32, RANK, 1, 1)
    names = (f"unet.{CONV}.lora_A.weight", f"unet.{CONV}.lora_B.weight")
    add_lora_(unet, (), saved(tmp_path, dict(zip(names, (down, up), strict=True))), scale=1.0)
    x = draw(1, 32, 5, 5)
    two = torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, down, padding=1), up)
    expected = plain.get_submodule(CONV)(x) + two
    assert torch.allclose(unet.get_submodule(CONV)(x), expected, atol=1e-4)


def test_the_output_projection_is_found_under_its_old_name(tmp_path):
    unet, plain = tiny_unet(), tiny_unet()
    old = f"unet.{OUT.removesuffix('.to_out.0')}.processor.to_out_lora"
    tensors = {f"{old}.down.weight": DOWN, f"{old}.up.weight": UP}
    add_lora_(unet, (), saved(tmp_path, tensors), scale=1.0)
    assert not torch.equal(unet.get_submodule(OUT).weight, plain.get_submodule(OUT).weight)


TEXT_LAYER = "text_model.encoder.layers.1.self_attn.q_proj"
TEXT_DOWN, TEXT_UP = draw(RANK, TEXT_WIDTH), draw(TEXT_WIDTH, RANK)
TEXT_NAMINGS = {
    "peft": f"text_encoder.{TEXT_LAYER}.lora_%s.weight",
    "saved by peft": f"base_model.model.{TEXT_LAYER}.lora_%s.weight",
    "diffusers": f"text_encoder.{TEXT_LAYER}.lora_linear_layer.%s.weight",
    "old diffusers": f"text_encoder.{TEXT_LAYER.replace('q_proj', 'to_q_lora')}.%s.weight",
    "kohya": f"lora_te_{TEXT_LAYER.replace('.', '_')}.lora_%s.weight",
}


def text_lora(tmp_path, naming="kohya", down=TEXT_DOWN):
    sides = ("A", "B") if "peft" in naming else ("down", "up")
    names = [TEXT_NAMINGS[naming] % side for side in sides]
    return saved(tmp_path, dict(zip(names, (down, TEXT_UP), strict=True)))


def with_the_sum(root, change):
    """The text encoder of a copy of a folder whose file holds the sum."""
    copy = root.with_name("changed")
    shutil.copytree(root, copy)
    weights = copy / "text_encoder" / "model.safetensors"
    state = load_file(weights)
    (name,) = [key for key in state if key.endswith("layers.1.self_attn.q_proj.weight")]
    save_file(state | {name: state[name] + change}, weights, metadata={"format": "pt"})
    return ClipText(copy, CPU, torch.float32)


@pytest.mark.parametrize("naming", TEXT_NAMINGS)
def test_each_naming_adds_to_the_text_encoder_too(naming, tmp_path):
    root = tiny_clip_text(tmp_path / "model")
    unet, text = tiny_unet(), ClipText(root, CPU, torch.float32)
    add_lora_(unet, [text], text_lora(tmp_path, naming), scale=0.5)
    expected = with_the_sum(root, 0.5 * TEXT_UP @ TEXT_DOWN)
    for prompt in ("one", "another"):  # for the second one the encoder is read again
        assert torch.allclose(text.encode(prompt), expected.encode(prompt), atol=1e-5)
    same = zip(unet.parameters(), tiny_unet().parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in same)


def test_prompts_embedded_before_are_embedded_anew(tmp_path):
    text = ClipText(tiny_clip_text(tmp_path / "model"), CPU, torch.float32)
    before = text.encode("one")
    add_lora_(tiny_unet(), [text], text_lora(tmp_path), scale=1.0)
    assert not torch.equal(text.encode("one"), before)


def test_a_text_encoder_of_another_width_is_refused(tmp_path):
    text = ClipText(tiny_clip_text(tmp_path / "model"), CPU, torch.float32)
    path = text_lora(tmp_path, down=draw(RANK, 2 * TEXT_WIDTH))
    with pytest.raises(ModelError, match="text encoder has another width"):
        add_lora_(tiny_unet(), [text], path, scale=1.0)


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
        ({NAMINGS["peft"][0]: DOWN[0], NAMINGS["peft"][1]: UP[0]}, "not understood"),
        ({NAMINGS["peft"][0]: DOWN[:0], NAMINGS["peft"][1]: UP[:, :0]}, "not understood"),
        (
            {NAMINGS["kohya"][0]: DOWN, NAMINGS["kohya"][1]: UP, KOHYA_ALPHA: torch.ones(3)},
            "not understood",
        ),
        ({NAMINGS["peft"][0]: DOWN, NAMINGS["peft"][1]: UP / 0}, "NaN or infinity"),
        ({"text_encoder.layer.lora_A.weight": DOWN}, "not understood"),
        (
            {TEXT_NAMINGS["peft"] % "A": TEXT_DOWN, TEXT_NAMINGS["peft"] % "B": TEXT_UP},
            "the model has none",
        ),
        (
            {
                "lora_te2_layer.lora_down.weight": DOWN,
                "lora_te2_layer.lora_up.weight": UP,
            },
            "changes a second text encoder: the model has none",
        ),
        ({}, "no weights"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, tensors, said):
    with pytest.raises(ModelError, match=said):
        add_lora_(tiny_unet(), (), saved(tmp_path, tensors), scale=1.0)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        add_lora_(tiny_unet(), (), tmp_path / "nowhere.safetensors", scale=1.0)


@pytest.mark.parametrize(
    ("released", "ours"),
    [
        ("input_blocks_0_0", "conv_in"),
        ("input_blocks_1_0_in_layers_2", "down_blocks_0_resnets_0_conv1"),
        ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
        ("input_blocks_4_1_proj_in", "down_blocks_1_attentions_0_proj_in"),
        ("input_blocks_8_0_emb_layers_1", "down_blocks_2_resnets_1_time_emb_proj"),
        (
            "input_blocks_8_1_transformer_blocks_9_attn2_to_k",
            "down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_k",
        ),
        ("middle_block_1_proj_out", "mid_block_attentions_0_proj_out"),
        ("middle_block_2_out_layers_3", "mid_block_resnets_1_conv2"),
        ("output_blocks_2_2_conv", "up_blocks_0_upsamplers_0_conv"),
        (
            "output_blocks_5_1_transformer_blocks_1_ff_net_0_proj",
            "up_blocks_1_attentions_2_transformer_blocks_1_ff_net_0_proj",
        ),
        ("output_blocks_8_0_skip_connection", "up_blocks_2_resnets_2_conv_shortcut"),
        ("time_embed_0", "time_embedding_linear_1"),
        ("label_emb_0_2", "add_embedding_linear_2"),
        ("down_blocks_1_attentions_0_proj_in", "down_blocks_1_attentions_0_proj_in"),
    ],
)
def test_names_of_released_checkpoints_are_those_of_diffusers(released, ours):
    assert with_new_block_names(released) == ours
