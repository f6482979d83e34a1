"""Captions: NAME.txt beside the picture or video NAME.mp4, or beside the folder NAME of frames."""

from pathlib import Path

from legato.errors import InputError
from legato.models.text import WordEncoder


def text_of(file: Path) -> str:
    """Return the text of a file; bytes that are no UTF-8 become replacement characters."""
    return file.read_text(encoding="utf-8-sig", errors="replace")


def caption_file(source: Path) -> Path:
    """Return where the caption of a picture, a video or a folder of frames is, or would be."""
    source = source.absolute()
    return source.parent / f"{source.name if source.is_dir() else source.stem}.txt"


def caption_of(source: Path) -> str:
    """Return the caption beside a picture, a video or a folder of frames; "" without one."""
    file = caption_file(source)
    return text_of(file).strip() if file.is_file() else ""


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
