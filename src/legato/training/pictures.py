"""Pictures with captions to learn from: images of folders, and single frames of clips in shards."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor
from torch.utils.data import Dataset

from legato.errors import DecodeError, InputError
from legato.evaluation.captions import caption_of
from legato.models.text import WordEncoder
from legato.pipelines.pictures import cover, to_model
from legato.training.batches import PASSED_OVER, unit_range
from legato.training.captions import require_known
from legato.training.shards import Shards
from legato.training.trainer import Batch
from legato.video.container import list_images
from legato.video.frame import Frame
from legato.video.images import read_image

Pixels = UInt8[ndarray, "H W 3"]
HELD_BACK = 32
"""Pictures that are validated on, at most."""
TRIES = 50
"""Pictures that are looked at for one that can be decoded."""


class Pictures:
    """Random access to pictures; cheap to hand to another process.

    Args:
        roots: folders of images, where NAME.txt beside NAME.png is its caption, or of shards, of
            whose clips single frames are taken.

    Raises:
        InputError: a folder holds neither.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        for root in roots:
            if not root.is_dir():
                raise InputError(f"{root}", why="no such folder", fix="check the spelling")
        of_images = {root: list_images(root) for root in roots}
        self.files = [path for paths in of_images.values() for path in paths]
        others = tuple(root for root, paths in of_images.items() if not paths)
        for root in others:
            if not any(root.rglob("*.tar")):
                raise InputError(
                    f"no pictures in {root}",
                    why="it holds neither images nor shards of clips",
                    fix="name a folder of images, or one that legato train shards made",
                )
        self.shards = Shards(others) if others else None

    def __len__(self) -> int:
        return len(self.files) + (len(self.shards) if self.shards else 0)

    def picture(self, number: int, rng: np.random.Generator) -> tuple[UInt8[ndarray, "H W 3"], str]:
        """Return picture `number`, of a clip a random frame, and its caption.

        Raises:
            DecodeError: it is damaged.
        """
        if number < len(self.files):
            return _eight_bit(read_image(self.files[number])[0]), self.caption(number)
        assert self.shards is not None
        which = number - len(self.files)
        clip = self.shards.clip(which, int(rng.integers(self.shards.num_frames(which))), 1)
        return clip.frames[0], clip.caption

    def caption(self, number: int) -> str:
        """Return the caption of picture `number` without decoding an image."""
        if number < len(self.files):
            return caption_of(self.files[number])
        assert self.shards is not None
        return self.shards.caption(number - len(self.files))

    def require_known(self, words: WordEncoder, prompt: str, most: int | None = None) -> None:
        """Refuse captions that a closed vocabulary lacks, behind a prompt.

        Args:
            words: the vocabulary.
            prompt: stands before every caption.
            most: of the pictures, the first; None: all.

        Raises:
            InputError: names the first such picture.
        """
        for number in range(len(self))[:most]:
            of = self.files[number] if number < len(self.files) else f"clip {number}"
            require_known(words, joined(prompt, self.caption(number)), of)


@dataclass(frozen=True, kw_only=True)
class PictureBatchOptions:
    """What a sample of pictures holds."""

    size: tuple[int, int]
    """Columns and rows: pictures are scaled to cover them, and the rest is cut off evenly."""
    prompt: str = ""
    """Stands before every caption."""
    prompt_dropout: float = 0.1
    """Share of pictures whose prompt is dropped, for guidance."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What the model showed before it learned, so that it does not forget."""

    latents: Float[Tensor, "N C h w"]
    captions: Sequence[str]


class PictureSamples(Dataset[Batch]):
    """Samples by their number, without end; each depends on the seed and its number only."""

    def __init__(
        self, pictures: Pictures, options: PictureBatchOptions, prior: Prior | None = None
    ) -> None:
        self.pictures, self.options, self.prior = pictures, options, prior

    def __getitem__(self, number: int) -> Batch:
        """Return `frames` 3 H W as uint8 and `captions`; of a prior `prior` and `prior_captions`.

        A picture that is damaged is passed over.

        Raises:
            InputError: hardly one can be decoded.
        """
        rng = np.random.default_rng((self.options.seed, number))
        pixels, caption, passed_over = self._decodable(rng)
        told = joined(self.options.prompt, caption)
        sample: Batch = {
            "frames": fitted(pixels, self.options.size),
            "captions": told if rng.random() >= self.options.prompt_dropout else "",
            PASSED_OVER: passed_over,
        }
        if self.prior is not None:
            k = number % len(self.prior.captions)
            sample |= {"prior": self.prior.latents[k], "prior_captions": self.prior.captions[k]}
        return sample

    def _decodable(self, rng: np.random.Generator) -> tuple[Pixels, str, str]:
        passed_over = ""
        for _ in range(TRIES):
            which = int(rng.integers(len(self.pictures)))
            try:
                return *self.pictures.picture(which, rng), passed_over
            except DecodeError as error:
                passed_over = f"passed over a picture: {error}"
        raise InputError(
            f"{TRIES} pictures drawn",
            why=f"none can be decoded ({passed_over})",
            fix="remove the damaged ones",
        )


def held_back_batches(
    pictures: Pictures, options: PictureBatchOptions, *, most: int = HELD_BACK, each: int = 8
) -> list[Batch]:
    """Return the first pictures, none of them without its prompt, the same at every call.

    Raises:
        DecodeError: one is damaged.
    """
    rng = np.random.default_rng(options.seed)
    found = [pictures.picture(k, rng) for k in range(min(most, len(pictures)))]
    frames = torch.stack([fitted(pixels, options.size) for pixels, _ in found])
    captions = [joined(options.prompt, caption) for _, caption in found]
    return [
        {"frames": frames[k : k + each], "captions": captions[k : k + each]}
        for k in range(0, len(found), each)
    ]


def joined(prompt: str, caption: str) -> str:
    """Return what stands for a picture: the common prompt, and its own caption."""
    return ", ".join(filter(None, (prompt, caption)))


def fitted(pixels: Pixels, size: tuple[int, int]) -> UInt8[Tensor, "3 H2 W2"]:
    """Return a picture of a size (width, height), as `cover` does."""
    frames = to_model([Frame(pixels=pixels, pts=0, time_base=Fraction(1))])
    if frames.shape[-2:] != size[::-1]:
        frames = cover(frames, size)
    levels: Tensor = ((frames[0] + 1) * 127.5).round().to(torch.uint8)
    return levels


def as_clip(frames: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 3 H W"]:
    """Return pictures in [-1, 1], each a clip of its own."""
    return unit_range(frames)[:, None]


def _eight_bit(pixels: ndarray) -> Pixels:
    return pixels if pixels.dtype == np.uint8 else (pixels / 257).round().astype(np.uint8)
