"""What libraries and the system say, in one line of ours."""

import pytest

from legato.errors import first_sentence


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
