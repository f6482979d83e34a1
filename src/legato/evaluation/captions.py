"""Captions: NAME.txt beside the picture or video NAME.mp4, or beside the folder NAME of frames."""

from pathlib import Path


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
