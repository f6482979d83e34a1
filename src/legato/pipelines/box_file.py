"""Where cars are in the first frame of a generated video: a text file with a line per car."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from legato.errors import InputError

BACK = "back"


def read_boxes(path: Path) -> Float[Tensor, "K 5"]:
    """Return left, top, right, bottom and 1 for cars seen from behind, as `box_maps` takes them.

    A line is `left top right bottom`, in shares of the picture's width and height, and the word
    `back` where the car is seen from behind. What follows a # is a comment.

    Raises:
        InputError: there is no such file, or a line is not understood; it is named.
    """
    path = path.expanduser()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}", why="no text can be read there", fix="name a file of boxes with --boxes"
        ) from error
    words = [line.partition("#")[0].split() for line in lines]
    rows = [_row(line, f"{path}, line {k}") for k, line in enumerate(words, start=1) if line]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def _row(words: list[str], where: str) -> tuple[float, ...]:
    numbers, seen = words[:4], words[4:]
    try:
        left, top, right, bottom = map(float, numbers)
    except ValueError:
        left = right = top = bottom = 0.0
    if seen not in ([], [BACK]) or not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise InputError(
            where,
            why=f"{' '.join(words)!r} is not a box",
            fix="write left top right bottom from 0 to 1, and back if it is seen from behind",
        )
    return left, top, right, bottom, float(seen == [BACK])
