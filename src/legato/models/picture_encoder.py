"""A picture as a network sees it that was taught to follow one: a vector in place of text."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection

from legato.errors import ModelError
from legato.models.folder import PICTURE_ENCODER, ModelFolder
from legato.models.manifest import REFILL
from legato.models.transformers_model import LOADING_ERRORS, failure, quietly

PREPROCESSOR, PREPROCESSOR_CONFIG = "feature_extractor", "preprocessor_config.json"
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training pictures (Radford et al. 2021, arXiv:2103.00020), unless others are named."""


class PictureEncoder:
    """CLIP's vision network with its projection.

    Args:
        folder: of the model; holds `image_encoder/` and may hold `feature_extractor/`.
        device: where to put it.
        dtype: its precision.

    Raises:
        ModelError: it is missing or damaged.
    """

    def __init__(self, folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> None:
        path = folder.path(PICTURE_ENCODER)
        folder.weights(PICTURE_ENCODER)  # tells of a missing file better than transformers
        try:
            with quietly():
                model, report = CLIPVisionModelWithProjection.from_pretrained(
                    path, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
        except LOADING_ERRORS as error:
            raise failure(f"{path} cannot be loaded", error, fix=REFILL) from error
        if report["missing_keys"]:
            lacks = ", ".join(sorted(report["missing_keys"])[:10])
            raise ModelError(f"{path} lacks {lacks}", why="it describes the picture", fix=REFILL)
        self._model: Any = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        known: dict[str, Any] = {}
        if folder.has(PREPROCESSOR):
            known = folder.config(PREPROCESSOR, PREPROCESSOR_CONFIG)
        self._mean, self._spread = (
            torch.tensor(known.get(name, usual), device=device).view(1, 3, 1, 1)
            for name, usual in (("image_mean", MEAN), ("image_std", SPREAD))
        )

    @property
    def width(self) -> int:
        """Length of the vector."""
        return int(self._model.config.projection_dim)

    @torch.no_grad()
    def __call__(self, picture: Float[Tensor, "3 H W"]) -> Float[Tensor, "1 1 D"]:
        """Return the embedding of a picture in [-1, 1], reduced to the network's square."""
        side = self._model.config.image_size
        small = picture[None].float().to(self._mean.device)
        if small.shape[-2:] != (side, side):
            small = F.interpolate(small, (side, side), mode="bicubic", antialias=True)
        pixels = ((small + 1) / 2 - self._mean) / self._spread
        embedding: Tensor = self._model(pixels.to(self._model.dtype)).image_embeds
        return embedding[:, None].float()
