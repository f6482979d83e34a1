"""Decoded frames as the model wants them, and its pictures as the encoder wants them."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from legato.video.frame import Frame, Pixels
from legato.video.resize import resize
from legato.video.write import VideoWriter


def to_model(frames: Sequence[Frame]) -> Float[Tensor, "T 3 H W"]:
    """Return decoded frames as RGB in [-1, 1], float32 on the CPU."""
    white = np.iinfo(frames[0].pixels.dtype).max
    pixels = np.stack([frame.pixels for frame in frames]).astype(np.float32, copy=False)
    planes = rearrange(torch.from_numpy(pixels), "T H W C -> T C H W").contiguous()
    return planes.mul_(2 / white).sub_(1)


def alpha_to_model(frames: Sequence[Frame]) -> Float[Tensor, "T 1 H W"]:
    """Return the opacity of frames that have it, in [-1, 1]."""
    planes = [frame.alpha for frame in frames if frame.alpha is not None]
    white = np.iinfo(planes[0].dtype).max
    stacked = torch.from_numpy(np.stack(planes).astype(np.float32))
    return rearrange(stacked, "T H W -> T 1 H W").mul_(2 / white).sub_(1)


def to_pixels(frame: Float[Tensor, "C H W"], dtype: np.dtype) -> Pixels | np.ndarray:
    """Return a picture in [-1, 1] as rounded samples `H W C` of an integer type.

    By numpy, in one thread: this runs beside the model, whose threads fill the cores.
    """
    white = float(np.iinfo(dtype).max)
    levels = (frame.float().numpy() + 1) * np.float32(white / 2)
    np.rint(levels, out=levels).clip(0, white, out=levels)
    return np.ascontiguousarray(rearrange(levels.astype(dtype), "C H W -> H W C"))


def to_size(frames: Float[Tensor, "T C H W"], size: tuple[int, int]) -> Float[Tensor, "T C H2 W2"]:
    """Return frames of a size (width, height): as they are, or resampled."""
    width, height = size
    return frames if frames.shape[2:] == (height, width) else resize(frames, (height, width))


def cover(frames: Float[Tensor, "T C H W"], size: tuple[int, int]) -> Float[Tensor, "T C H2 W2"]:
    """Return frames in [-1, 1] scaled to cover a size (width, height), the rest cut off evenly."""
    (width, height), (rows, cols) = size, frames.shape[-2:]
    factor = max(height / rows, width / cols)
    covering = (max(round(rows * factor), height), max(round(cols * factor), width))
    scaled = resize(frames, covering)
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    return scaled[..., top : top + height, left : left + width].clamp(-1, 1)


def write_picture(writer: VideoWriter, frame: Frame, picture: Float[Tensor, "3 H W"]) -> None:
    """Encode one finished picture with the time and the enlarged opacity of its source."""
    dtype = frame.pixels.dtype
    alpha = None
    if frame.alpha is not None:
        rows, cols = picture.shape[1:]
        opacity = to_size(alpha_to_model([frame]), (cols, rows))
        alpha = np.ascontiguousarray(to_pixels(opacity[0], dtype)[..., 0])
    writer.write(to_pixels(picture, dtype), pts=frame.pts, alpha=alpha)
