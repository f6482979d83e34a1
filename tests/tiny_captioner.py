"""Tiny real image-to-text models: the real classes, random weights, a handful of words."""

from pathlib import Path

import torch
from tiny import randomise_
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    PreTrainedTokenizerFast,
)

LAYERS = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def tiny_words(words: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, after the four special ones."""
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
    }
    numbers = {word: number for number, word in enumerate([*special.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def tiny_captioner(target: Path, words: list[str]) -> Path:
    """A folder of a BLIP that captions with these words; what it says depends on the picture."""
    tiny_words(words).save_pretrained(target)
    BlipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(target)
    text = {
        "vocab_size": len(words) + 4,
        "encoder_hidden_size": 16,
        "max_position_embeddings": 64,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "pad_token_id": 0,
    }
    config = BlipConfig(
        text_config=text | LAYERS, vision_config={"image_size": 16, "patch_size": 8} | LAYERS
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = BlipForConditionalGeneration(config)
    randomise_(model, seed=0, scale=0.5).save_pretrained(target)
    return target
