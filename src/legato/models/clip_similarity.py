"""Pictures and words in one space, with any CLIP-like model of transformers that the user names.

Radford et al. 2021, arXiv:2103.00020. How alike two of them are is the cosine of their embeddings.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from legato.errors import ModelError
from legato.models.transformers_model import LOADING_ERRORS, failure, quietly, source_of

FIX = "name a folder or a model at the hub such as openai/clip-vit-base-patch32"


class ClipSimilarity:
    """Embeds pictures and words; unit vectors, float32 on the CPU.

    Args:
        name: its folder, or its name at the Hugging Face hub.
        device: where to compute.

    Raises:
        ModelError: it is missing, damaged, not whole, or has no embeddings of pictures and words.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self._device = name, device
        source = source_of(name)
        try:
            with quietly():
                self._images: Any = AutoImageProcessor.from_pretrained(**source)
                self._tokenizer: Any = AutoTokenizer.from_pretrained(**source)
                model, report = AutoModel.from_pretrained(
                    **source, use_safetensors=True, output_loading_info=True
                )
        except LOADING_ERRORS as error:
            raise self._failed("cannot be loaded", error) from error
        if report["missing_keys"] or not hasattr(model, "get_image_features"):
            lacks = sorted(report["missing_keys"])[:10] or ["embeddings of pictures and words"]
            raise ModelError(
                f"CLIP model {name!r} cannot be used", why=f"it lacks {', '.join(lacks)}", fix=FIX
            )
        self._model: Any = model.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def picture(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, " D"]:
        """Return the embedding of an RGB picture.

        Raises:
            ModelError: the model cannot read it.
        """
        try:
            inputs = self._images(images=picture, return_tensors="pt").to(self._device)
            return _unit(self._model.get_image_features(**inputs))
        except LOADING_ERRORS as error:
            raise self._failed("cannot read a picture", error) from error

    @torch.no_grad()
    def self_similarity(self, picture: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "N N"] | None:
        """Return how alike a picture's places are: cosines of its tokens at the last vision layer.

        The class token counts as a place: it is one row of many. None: the model has no tokens.

        Raises:
            ModelError: the model cannot read it.
        """
        vision = getattr(self._model, "vision_model", None)
        if vision is None:
            return None
        try:
            inputs = self._images(images=picture, return_tensors="pt").to(self._device)
            tokens: Tensor = vision(**inputs).last_hidden_state[0].float()
        except LOADING_ERRORS as error:
            raise self._failed("cannot read a picture", error) from error
        if tokens.ndim != 2:  # a convolutional network's map
            return None
        unit = F.normalize(tokens, dim=1)
        return (unit @ unit.T).cpu()

    @torch.no_grad()
    def words(self, text: str) -> Float[Tensor, " D"]:
        """Return the embedding of a text, cut to what the model reads.

        Raises:
            ModelError: the model cannot read it.
        """
        try:
            inputs = self._tokenizer(text, truncation=True, return_tensors="pt").to(self._device)
            return _unit(self._model.get_text_features(**inputs))
        except LOADING_ERRORS as error:
            raise self._failed("cannot read a text", error) from error

    def _failed(self, what: str, error: Exception) -> ModelError:
        return failure(f"CLIP model {self.name!r} {what}", error, fix=FIX)


def _unit(found: Any) -> Float[Tensor, " D"]:  # noqa: ANN401  (a tensor, or since transformers 5 an output)
    embedded: Tensor = getattr(found, "pooler_output", found)
    return F.normalize(embedded[0].float(), dim=0).cpu()
