"""What libraries and the system say, in one line of ours."""

import pickle

import pytest

from legato.errors import (
    DecodeError,
    InputError,
    LegatoError,
    ModelError,
    counted,
    first_sentence,
)


@pytest.mark.parametrize("kind", [LegatoError, InputError, DecodeError, ModelError])
def test_an_error_of_another_process_is_the_one_that_it_was_there(kind):
    error = kind("a.png", why="it is damaged", fix="save it again")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "a.png: it is damaged; save it again"
    assert (again.what, again.why, again.fix) == (error.what, error.why, error.fix)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Weights only load failed. In PyTorch 2.6, we changed", "Weights only load failed"),
        ("cannot load\n  'a.b/c'.\n", "cannot load 'a.b/c'"),
        ("version 0.1 is too old", "version 0.1 is too old"),
        ("word " * 50, f"{'word ' * 40}..."),
        ("", "ValueError"),
    ],
)
def test_a_librarys_message_ends_with_a_sentence_or_a_word(said, expected):
    assert first_sentence(ValueError(said)) == expected


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 batches"), (1, "1 batch"), (2, "2 batches"), (12, "12 batches")]
)
def test_one_thing_is_told_as_one(number, said):
    assert counted(number, "batch", "batches") == said
    assert counted(number, "frame") == f"{number} frame{'' if number == 1 else 's'}"
