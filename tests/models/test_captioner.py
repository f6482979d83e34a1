"""Any image-to-text model of transformers: one that captions, one that chats, and bad ones."""

import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file
from tiny import tiny_clip_text
from tiny_captioner import LAYERS, tiny_captioner, tiny_words
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

from legato.errors import ModelError
from legato.models.captioner import QUESTION, Captioner
from legato.models.transformers_model import HUB_SECONDS, source_of

CPU = torch.device("cpu")
WORDS = ["animal", "water", "night", "face", "snow"]
TEMPLATE = (
    "{% for c in messages[0].content %}"
    "{% if c.type == 'image' %}<image> {% else %}{{ c.text }}{% endif %}"
    "{% endfor %}"
)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_a_caption_is_one_repeatable_line_of_the_models_words(tmp_path):
    captioner = Captioner(str(tiny_captioner(tmp_path, WORDS)), CPU)
    said = [captioner(picture(seed)) for seed in (0, 0, 1, 2, 3)]
    assert said[0] == said[1]
    assert len(set(said)) > 1
    assert set(" ".join(said).split()) <= set(WORDS)


def test_an_encoder_and_a_decoder_joined_caption(tmp_path):
    """As nlpconnect/vit-gpt2-image-captioning, which has no processor that does both."""
    tiny_words(WORDS).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        ViTConfig(image_size=16, patch_size=8, **LAYERS),
        GPT2Config(
            vocab_size=len(WORDS) + 4,
            n_embd=16,
            n_layer=1,
            n_head=2,
            bos_token_id=2,
            eos_token_id=3,
        ),
    )
    config.decoder_start_token_id, config.pad_token_id = 2, 0
    VisionEncoderDecoderModel(config).save_pretrained(tmp_path)
    said = Captioner(str(tmp_path), CPU)(picture())
    assert set(said.split()) <= set(WORDS)


def test_a_model_that_chats_is_asked_and_its_answer_is_taken(tmp_path):
    tokenizer = tiny_words([*WORDS, *QUESTION.replace(".", " .").split()])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(tmp_path)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=16, **LAYERS),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), num_key_value_heads=2, eos_token_id=3, **LAYERS
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    captioner = Captioner(str(tmp_path), CPU)
    said = captioner(picture())
    assert said == captioner(picture())
    assert QUESTION.rstrip(".") not in said
    assert said


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def only_a_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    no_weights(folder)


def truncated(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


def a_weight_missing(folder):
    state = load_file(folder / "model.safetensors")
    del state["vision_model.post_layernorm.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def a_text_encoder(folder):
    shutil.rmtree(folder)
    tiny_clip_text(folder)
    (folder / "text_encoder/config.json").rename(folder / "config.json")


def nothing(folder):
    shutil.rmtree(folder)


BAD = {
    "no weights": (no_weights, "model.safetensors"),
    "only a pickle": (only_a_pickle, "safetensors"),
    "truncated": (truncated, "cannot be loaded"),
    "a weight missing": (a_weight_missing, "lacks vision_model.post_layernorm.weight"),
    "a text encoder": (a_text_encoder, "cannot be loaded"),
    "nothing": (nothing, "cannot be loaded"),
}


@pytest.mark.parametrize(("damage", "says"), BAD.values(), ids=BAD)
def test_a_bad_model_is_one_line_that_names_it(tmp_path, monkeypatch, damage, says):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tiny_captioner(tmp_path / "captioner", WORDS)
    damage(folder)
    with pytest.raises(ModelError, match=says) as error:
        Captioner(str(folder), CPU)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("answers", [True, False])
def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch, answers):
    asked = []

    def model_info(self, name, *, timeout):
        asked.append(timeout)
        if not answers:
            raise OSError("no route to host")

    monkeypatch.setattr(HfApi, "model_info", model_info)
    source = source_of("someone/captions")
    assert source["local_files_only"] is not answers
    assert asked == [HUB_SECONDS]


def test_a_model_that_no_hub_gives_is_refused_soon(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="someone/captions"):
        Captioner("someone/captions", CPU)
