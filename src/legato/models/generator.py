"""A generating model as the pipelines use it: key frames, frames between them, and a decoder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from legato.errors import ModelError
from legato.models.box_layout import BoxLayout
from legato.models.image_model import ImageModel
from legato.models.inflate import VideoModel
from legato.models.manifest import GeneratorDefaults
from legato.models.picture_encoder import PictureEncoder
from legato.models.text import WordEncoder
from legato.models.text_encoder import ClipText


@dataclass(frozen=True, kw_only=True)
class GeneratorModel(ImageModel):
    """A complete Video LDM, ready to use; made by `load_generator`.

    Its `unet` has the temporal layers of key frames and prediction.
    """

    defaults: GeneratorDefaults
    interpolation: VideoModel | None
    """The model of the frames between; None: the folder holds none."""
    interpolation_is_own: bool
    """Whether that has an image model of its own, which reads prompts as the temporal layers do."""
    temporal_text: WordEncoder | ClipText | None
    """Embeds prompts for the temporal layers; None: as for the image model."""
    layout: BoxLayout | None
    """What tells the image model of boxes; None: it cannot be told."""
    upsampler: Path | None
    """Folder of the upscaling model that goes with it."""
    picture: PictureEncoder | None = None
    """What sees the picture that the video is made of; None: it is made of words."""

    @property
    def predicts(self) -> bool:
        """Whether key frames can follow given ones."""
        return self.unet.context_channels is not None

    def require(self, part: str, *, why: str) -> ModelError:
        """Return the error for a stage model that the folder lacks."""
        return ModelError(
            f"model {self.name!r} lacks {part}/",
            why=why,
            fix=f"put that part into {self.root}, or do without it",
        )

    @torch.no_grad()
    def encode_temporal_prompt(self, prompt: str) -> Float[Tensor, "1 N E"] | None:
        """Return the prompt as the temporal layers read it; None: they read the image model's.

        Words that another image model has learned and a closed vocabulary lacks are left out.
        """
        text = self.temporal_text
        return None if text is None else text.encode(text.as_prompt(prompt))
