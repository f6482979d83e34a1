"""A generating model as the pipelines use it: key frames, frames between them, and a decoder."""

from dataclasses import dataclass
from pathlib import Path

from legato.errors import ModelError
from legato.models.image_model import ImageModel
from legato.models.inflate import VideoModel
from legato.models.manifest import GeneratorDefaults


@dataclass(frozen=True, kw_only=True)
class GeneratorModel(ImageModel):
    """A complete Video LDM, ready to use; made by `load_generator`.

    Its `unet` has the temporal layers of key frames and prediction.
    """

    defaults: GeneratorDefaults
    interpolation: VideoModel | None
    """The model of the frames between; None: the folder holds none."""
    upsampler: Path | None
    """Folder of the upscaling model that goes with it."""

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
