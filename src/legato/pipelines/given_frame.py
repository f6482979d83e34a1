"""The first or last frame of a generated video, given as an image of any size."""

from fractions import Fraction
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from legato.pipelines.generation_request import read_picture
from legato.pipelines.pictures import cover, to_model
from legato.video.frame import Frame


def read_given_frame(
    path: Path, size: tuple[int, int]
) -> tuple[Float[Tensor, "3 H W"], str | None]:
    """Return an image in [-1, 1] at a size (width, height), and what was done to it.

    It is scaled to cover the size, and what reaches over is cut off evenly at both ends.

    Raises:
        DecodeError: there is no such file, or it holds no picture.
    """
    frames = to_model([Frame(pixels=read_picture(path), pts=0, time_base=Fraction(1))])
    (width, height), (rows, cols) = size, frames.shape[-2:]
    if (rows, cols) == (height, width):
        return frames[0], None
    notice = f"{path.name}: fitted from {cols}x{rows} to {width}x{height}"
    return cover(frames, size)[0], notice
