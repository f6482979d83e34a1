"""Stable Diffusion XL: what its pipeline of diffusers computes, ours computes."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from tiny import tiny_clip_text
from tiny_image_model import tiny_controlnet, tiny_diffusers_image_model, tiny_xl_image_model
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from legato.errors import ModelError
from legato.models.controlnet import load_controlnet
from legato.models.image_model import load_image_model
from legato.models.inspection import inspect_model
from legato.models.lora import add_lora_
from legato.models.text_encoder import ClipPair
from legato.models.trainable_text import TrainableText

CPU, FLOAT = torch.device("cpu"), torch.float32


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_xl_image_model(tmp_path_factory.mktemp("xl") / "m")


@pytest.fixture(scope="module")
def model(root):
    return load_image_model(str(root), CPU, FLOAT)


@pytest.fixture(scope="module")
def pipeline(root):
    """Diffusers' own."""
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(root / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(root / "text_encoder"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(root / "text_encoder_2"),
        tokenizer=CLIPTokenizer.from_pretrained(root / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(root / "tokenizer_2"),
        unet=UNet2DConditionModel.from_pretrained(root / "unet").eval(),
        scheduler=DDIMScheduler.from_pretrained(root / "scheduler"),
    )


def test_prompts_and_predictions_are_those_of_diffusers(model, pipeline):
    latents = torch.randn(2, 3, 4, 8, 12)
    prompts = [model.encode_prompt(text) for text in ("a red boat", "")]
    with torch.no_grad():
        positive, negative, whole, silent = pipeline.encode_prompt("a red boat", device=CPU)
        sizes = torch.tensor([[64.0, 96.0, 0.0, 0.0, 64.0, 96.0]])
        theirs = [
            pipeline.unet(
                frames,
                300,
                tokens.expand(3, -1, -1),
                added_cond_kwargs={
                    "text_embeds": pooled.expand(3, -1),
                    "time_ids": sizes.expand(3, -1),
                },
            ).sample
            for frames, tokens, pooled in zip(
                latents, (positive, negative), (whole, silent), strict=True
            )
        ]
        ours = model.unet(latents, 300, torch.cat(prompts))
    assert not negative.any()
    assert not silent.any()
    assert torch.allclose(prompts[0][:, :-1], positive, atol=1e-6)
    assert torch.allclose(ours, torch.stack(theirs), atol=1e-5)


def test_the_whole_prompt_and_the_size_of_the_picture_are_told(model):
    latents, prompt = torch.randn(1, 2, 4, 8, 12), model.encode_prompt("a red boat")
    other = prompt.clone()
    other[:, -1] = model.encode_prompt("winter")[:, -1]
    with torch.no_grad():
        same, told = model.unet(latents, 300, prompt), model.unet(latents, 300, other)
        turned = model.unet(latents.mT, 300, prompt).mT
    assert not torch.allclose(same, told, atol=1e-4)
    assert not torch.allclose(same, turned, atol=1e-4)


def test_an_empty_prompt_is_read_where_the_model_learned_it(root):
    read = ClipPair(root, CPU, FLOAT, silent_is_zero=False).encode("")
    assert read.any()
    assert not ClipPair(root, CPU, FLOAT, silent_is_zero=True).encode("").any()


def test_a_controlnet_is_told_the_same(model, tmp_path):
    facts = ("cross_attention_dim", "addition_embed_type", "addition_time_embed_dim")
    facts += ("projection_class_embeddings_input_dim",)
    config = {name: model.unet.spatial.config[name] for name in facts}
    config["conditioning_embedding_out_channels"] = (8, 8, 8, 8)
    root = tiny_controlnet(tmp_path / "c", **config)
    controlnet = load_controlnet(root, model, scale=0.7, device=CPU, dtype=FLOAT)
    latents, maps = torch.randn(2, 2, 4, 8, 8), torch.rand(2, 3, 64, 64)
    text = torch.cat([model.encode_prompt("boat"), model.encode_prompt("winter")])
    with torch.no_grad(), controlnet.given(maps):
        ours = model.unet(latents, 300, text).flatten(0, 1)
    tokens = text[:, :-1].repeat_interleave(2, 0)
    added = {
        "text_embeds": text[:, -1, :8].repeat_interleave(2, 0),
        "time_ids": torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).expand(4, -1),
    }
    with torch.no_grad():
        down, middle = controlnet.network(
            *(latents.flatten(0, 1), 300, tokens, maps.repeat(2, 1, 1, 1)),
            conditioning_scale=0.7,
            added_cond_kwargs=added,
            return_dict=False,
        )
        theirs = model.unet.spatial(
            *(latents.flatten(0, 1), 300, tokens),
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_lora_reaches_both_text_encoders(root, tmp_path):
    model = load_image_model(str(root), CPU, FLOAT)
    before = model.encode_prompt("a red boat")
    layer = "text_model_encoder_layers_0_self_attn_q_proj"
    for number in (1, 2):
        pair = {
            f"lora_te{number}_{layer}.lora_{side}.weight": torch.eye(16) for side in ("down", "up")
        }
        path = tmp_path / f"{number}.safetensors"
        save_file(pair, path)
        add_lora_(model.unet.spatial, model.text.encoders, path, scale=1.0)
        after = model.encode_prompt("a red boat")
        changed = (after - before)[0, :-1].abs().amax(0).split(16)
        assert [bool(part.max() > 1e-3) for part in changed] == [True, number == 2]
    assert not torch.equal(after[:, -1], before[:, -1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"addition_embed_type": None}, "added conditions are None"),
        ({"projection_class_embeddings_input_dim": 5 * 8 + 8}, "sizes to be told are 5"),
    ],
)
def test_a_u_net_that_is_told_otherwise_is_refused(changes, said, tmp_path):
    root = tiny_xl_image_model(tmp_path / "m", **changes)
    with pytest.raises(ModelError, match=said):
        load_image_model(str(root), CPU, FLOAT)
    assert any(said in problem for problem in inspect_model(root).problems)


def test_a_second_encoder_beside_an_older_u_net_is_refused(tmp_path):
    root = tiny_clip_text(tiny_diffusers_image_model(tmp_path / "m"), number="_2")
    with pytest.raises(ModelError, match="added conditions are None"):
        load_image_model(str(root), CPU, FLOAT)


def test_a_missing_second_encoder_is_named(tmp_path):
    root = tiny_xl_image_model(tmp_path / "m")
    assert inspect_model(root).problems == ()
    (root / "text_encoder_2" / "model.safetensors").unlink()
    (root / "tokenizer_2" / "tokenizer.json").unlink(missing_ok=True)
    (root / "tokenizer_2" / "vocab.json").unlink(missing_ok=True)
    problems = " ".join(inspect_model(root).problems)
    assert "text_encoder_2" in problems
    assert "tokenizer_2" in problems
    with pytest.raises(ModelError, match="text encoder 2 of"):
        load_image_model(str(root), CPU, FLOAT)


def test_it_cannot_be_trained(model):
    with pytest.raises(ModelError, match="two text encoders"):
        TrainableText(model.text)


def test_silence_is_as_the_index_says(root, tmp_path):
    other = tiny_xl_image_model(tmp_path / "m")
    (other / "model_index.json").write_text(json.dumps({"force_zeros_for_empty_prompt": False}))
    assert load_image_model(str(other), CPU, FLOAT).encode_prompt("").any()
