"""The closed vocabulary: synonyms, order, refusal."""

import pytest
import torch

from legato.errors import InputError
from legato.models.text import MAX_WORDS, SYNONYMS, WordEncoder, words_in


def test_free_text_gives_each_known_word_once_in_order():
    assert words_in("A dog and a cat on grass, fast motion") == ["animal", "foliage", "motion"]


def test_no_synonym_belongs_to_two_words():
    everything = [w for entry, others in SYNONYMS.items() for w in (entry, *others)]
    assert len(everything) == len(set(everything))


def test_unknown_words_are_refused_with_the_list():
    with pytest.raises(InputError, match=r"'dragon'.*closed vocabulary.*face"):
        WordEncoder(8).encode("face dragon")


def test_more_words_than_are_read_are_refused_and_left_out_of_captions():
    encoder, words = WordEncoder(8), list(SYNONYMS)[: MAX_WORDS + 1]
    assert encoder.encode(" ".join([*words[:-1], *words[:-1]])).shape == (1, MAX_WORDS, 8)
    with pytest.raises(InputError, match=rf"{MAX_WORDS + 1} words.*reads {MAX_WORDS}"):
        encoder.encode(" ".join(words))
    assert encoder.as_prompt(" ".join(words)) == ", ".join(words[:-1])


def test_the_empty_prompt_is_the_empty_token_and_words_change_the_embedding():
    encoder = WordEncoder(8)
    empty, named = encoder.encode(""), encoder.encode("face water")
    assert empty.shape == named.shape == (1, MAX_WORDS, 8)
    assert torch.equal(empty[0, 0], empty[0, -1])
    assert not torch.equal(empty[0, :2], named[0, :2])
    assert torch.equal(empty[0, 2:], named[0, 2:])


def test_synonyms_mean_the_same():
    encoder = WordEncoder(8)
    assert torch.equal(encoder.encode("woman"), encoder.encode("face"))


def test_a_vocabularys_own_words_come_before_what_they_mean_elsewhere():
    encoder = WordEncoder(8, ["road", "highway"])
    own = encoder(encoder.tokens(["highway"])[None])
    assert torch.equal(encoder.encode("highway"), own)


def test_two_words_of_one_group_are_refused_and_the_second_left_out_of_captions():
    encoder = WordEncoder(8, ["day", "night", "rain", "city"], [["day", "night"], ["rain", "fog"]])
    assert encoder.encode("rain, night, city, night").shape == (1, MAX_WORDS, 8)
    for known in (encoder, WordEncoder.from_config(encoder.to_config())):
        with pytest.raises(InputError, match=r"'day' and 'night'.*a negative prompt.*leave one"):
            known.encode("day, rain, night")
    assert encoder.as_prompt("rain by night, not by day") == "rain, night"
    with pytest.raises(InputError, match="'night' and 'day'"):
        encoder.with_words_of("sepia").encode("sepia night, day")


@pytest.mark.parametrize("prompt", ["ночь", "夜", "Künstler", "night ночь"])
def test_words_of_other_scripts_are_refused_whole(prompt):
    encoder = WordEncoder(8, ["day", "night"])
    with pytest.raises(InputError, match=f"{prompt.split()[-1].lower()!r}.*closed vocabulary"):
        encoder.encode(prompt)
    assert encoder.as_prompt(prompt) == ("night" if "night" in prompt else "")


def test_a_prompt_without_a_word_is_refused():
    encoder = WordEncoder(8, ["day", "night"])
    for prompt in ("🙂", "2024", "?!"):
        with pytest.raises(InputError, match="no word in it"):
            encoder.encode(prompt)
    assert torch.equal(encoder.encode(" , "), encoder.encode(""))
