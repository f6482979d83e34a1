"""Captions that a model can be told; `evaluation.captions` says where they lie."""

from legato.errors import InputError
from legato.models.text import WordEncoder


def require_known(words: WordEncoder, caption: str, of: object) -> None:
    """Refuse a caption that the model cannot be told, before anything learns from it.

    Args:
        words: its closed vocabulary.
        caption: with what stands before it.
        of: what the caption is of.

    Raises:
        InputError: a word is unknown, two exclude each other, or there are too many.
    """
    try:
        words.prompt_tokens(caption)
    except InputError as error:
        raise InputError(f"caption of {of}: {error.what}", why=error.why, fix=error.fix) from error
