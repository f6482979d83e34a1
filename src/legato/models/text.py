"""Words to embeddings for the embedded model: a closed vocabulary, no download."""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from legato.errors import InputError

MAX_WORDS = 8
"""Tokens per prompt; shorter prompts are padded with the empty token."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "face": ("man", "woman", "selfie", "beard", "redhead", "speech", "talk"),
    "person": ("people", "children", "kids", "dancers", "runner", "dancing", "hands", "body"),
    "hair": (),
    "fabric": ("knitted", "robe", "dress", "coat", "curtain", "kimono"),
    "animal": (
        "dog",
        "cat",
        "wolf",
        "rabbit",
        "shiba",
        "puppy",
        "fox",
        "gorilla",
        "frog",
        "otters",
        "insect",
        "bee",
        "butterfly",
    ),
    "bird": ("duck", "swan", "osprey", "wren", "falcon", "toucan", "birdie", "mallard", "hato"),
    "fur": (),
    "foliage": (
        "grass",
        "trees",
        "tree",
        "plants",
        "meadow",
        "woods",
        "flower",
        "flowers",
        "garden",
        "gardens",
        "vineyard",
    ),
    "water": ("sea", "ocean", "waves", "lake", "ripples", "liquid", "spray", "beach"),
    "sky": ("clouds", "sunset"),
    "snow": ("ski", "skiing"),
    "rock": ("stone", "mountain", "desert", "canyon", "gravel"),
    "building": (
        "facade",
        "roof",
        "brick",
        "wall",
        "library",
        "colosseum",
        "casa",
        "steps",
        "steel",
    ),
    "street": ("road", "bus", "traffic", "shop", "highway", "motorway", "train"),
    "city": ("cityscape", "piazza"),
    "vehicle": ("car", "cars", "truck"),
    "food": ("coffee", "spices", "beer", "groceries"),
    "text": ("slide", "banner", "notes", "handwritten", "screen", "book"),
    "animation": ("cartoon", "render", "generated", "vfx"),
    "film": ("movie", "old"),
    "night": ("dark",),
    "indoor": ("bedroom", "office", "indoors", "room"),
    "sport": ("judo", "tennis", "running", "surf", "breakdance", "jumping"),
    "texture": ("dense", "repeated", "lines", "mural"),
    "smooth": ("soft", "gradients"),
    "motion": ("fast",),
}
"""The vocabulary, and other words that mean the same; the order is part of the weights."""

MEANING = {word: entry for entry, others in SYNONYMS.items() for word in (entry, *others)}


def words_in(text: str) -> list[str]:
    """Return the vocabulary's words that a free text mentions, each once, in its order."""
    found = map(MEANING.get, _words(text))
    return list(dict.fromkeys(word for word in found if word))


class WordEncoder(nn.Module):
    """One learned embedding per word; the empty prompt is a learned token of its own.

    Args:
        width: features per token, the U-Net's `cross_attention_dim`.
        vocabulary: the words, in the order of the weights.
        groups: words of which a picture shows one at most, such as day and night.
    """

    def __init__(
        self,
        width: int,
        vocabulary: list[str] | None = None,
        groups: Sequence[Sequence[str]] = (),
    ) -> None:
        super().__init__()
        self.vocabulary = list(SYNONYMS) if vocabulary is None else list(vocabulary)
        self.groups = [list(group) for group in groups]
        self.embedding = nn.Embedding(len(self.vocabulary) + 1, width)
        self.norm = nn.LayerNorm(width)

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "WordEncoder":
        """Build from the dictionary that `to_config` returned."""
        return cls(values["width"], values["vocabulary"], values.get("groups", ()))

    def to_config(self) -> dict[str, Any]:
        """Return a JSON-ready description of the topology."""
        width = self.embedding.embedding_dim
        words = {"vocabulary": self.vocabulary, "groups": self.groups}
        return {"_class_name": "WordEncoder", "width": width, **words}

    def tokens(self, words: list[str]) -> Int[Tensor, "N"]:
        """Return `MAX_WORDS` token numbers; 0 is the empty token."""
        known = [self.vocabulary.index(word) + 1 for word in words][:MAX_WORDS]
        return torch.tensor(known + [0] * (MAX_WORDS - len(known)))

    def forward(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """Return the embeddings of token numbers."""
        embedded: Tensor = self.norm(self.embedding(tokens))
        return embedded

    def prompt_tokens(self, prompt: str) -> Int[Tensor, "N"]:
        """Return the token numbers of a prompt.

        Raises:
            InputError: a word is not in the vocabulary, two exclude each other, there are more than
                `MAX_WORDS`, or there is something, but no word.
        """
        words = {word: self._entry(word) for word in _words(prompt)}
        if not words and prompt.strip(" ,"):
            raise InputError(
                f"prompt {prompt!r}", why="there is no word in it", fix="use words, or leave it out"
            )
        unknown = [word for word, known in words.items() if known not in self.vocabulary]
        if unknown:
            known_words = ", ".join(self.vocabulary)
            raise InputError(
                f"prompt word {unknown[0]!r}",
                why=f"this model knows {'a closed vocabulary' if known_words else 'no words'}",
                fix=f"use some of: {known_words}" if known_words else "leave the prompt out",
            )
        entries = list(dict.fromkeys(words.values()))
        for word, other in combinations(entries, 2):
            if self._exclude(word, other):
                raise InputError(
                    f"prompt words {word!r} and {other!r}",
                    why="this model has only learned pictures of one of them, and a negative "
                    "prompt leads away from what it has learned",
                    fix="leave one of them out",
                )
        if len(entries) > MAX_WORDS:
            raise InputError(
                f"prompt of {len(entries)} words",
                why=f"this model reads {MAX_WORDS} at most",
                fix=f"leave some out, such as {entries[-1]!r}",
            )
        return self.tokens(entries)

    def encode(self, prompt: str) -> Float[Tensor, "1 N D"]:
        """Return the embeddings of a prompt.

        Raises:
            InputError: as `prompt_tokens`.
        """
        tokens = self.prompt_tokens(prompt)[None].to(self.embedding.weight.device)
        embedded: Tensor = self(tokens)
        return embedded

    def as_prompt(self, text: str) -> str:
        """Return the first words of a free text that make a prompt."""
        known: list[str] = []
        for word in dict.fromkeys(map(self._entry, _words(text))):
            if word in self.vocabulary and not any(self._exclude(word, k) for k in known):
                known.append(word)
        return ", ".join(known[:MAX_WORDS])

    def with_words_of(self, prompt: str) -> "WordEncoder":
        """Return an encoder that also knows the prompt's other words, as the mean of all it knows.

        Those that it knows keep their embeddings.
        """
        missing = dict.fromkeys(w for w in _words(prompt) if self._entry(w) not in self.vocabulary)
        weight = self.embedding.weight.detach()
        grown = WordEncoder(weight.shape[1], [*self.vocabulary, *missing], self.groups).to(weight)
        fresh = weight[1:].mean(dim=0).expand(len(missing), -1)
        grown.embedding.weight.data = torch.cat((weight, fresh))
        grown.norm.load_state_dict(self.norm.state_dict())
        return grown

    def _entry(self, word: str) -> str:
        return word if word in self.vocabulary else MEANING.get(word, word)

    def _exclude(self, word: str, other: str) -> bool:
        return any(word in group and other in group for group in self.groups)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())
