"""How near things are, with any depth-estimation model of transformers that the user names."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor

from legato.errors import ModelError
from legato.models.transformers_model import LOADING_ERRORS, failure, quietly, source_of

METRIC = ("zoedepth", "depth_pro", "glpn", "prompt_depth_anything")
"""Kinds of models that tell distances; others tell nearness, its inverse, unless they say so."""
FIX = "name a folder or a model at the hub such as Intel/dpt-hybrid-midas"
_NEAREST = 1e-3  # of a distance, so that its inverse stays finite
_FLAT = 1e-6  # less nearness than this between the nearest and the farthest is none


class DepthEstimator:
    """Tells the nearness of what pictures show; frames are seen one by one.

    Args:
        name: the model's folder, or its name at the Hugging Face hub.
        device: where to compute.

    Raises:
        ModelError: it is missing, damaged, not whole, or of another kind.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self._device = name, device
        source = source_of(name)
        try:
            with quietly():
                from transformers import AutoModelForDepthEstimation

                self._images: Any = AutoImageProcessor.from_pretrained(**source)
                model, report = AutoModelForDepthEstimation.from_pretrained(
                    **source, use_safetensors=True, output_loading_info=True
                )
        except LOADING_ERRORS as error:
            raise self._failed("cannot be loaded", error) from error
        if report["missing_keys"]:
            raise ModelError(
                f"depth model {name!r} is not whole",
                why=f"it lacks {', '.join(sorted(report['missing_keys'])[:10])}",
                fix=FIX,
            )
        self._model: Any = model.to(device).eval().requires_grad_(False)

    @property
    def is_metric(self) -> bool:
        """Whether the model tells distances instead of nearness."""
        config = self._model.config
        kind = getattr(config, "depth_estimation_type", None)
        return kind == "metric" or (kind is None and config.model_type in METRIC)

    @torch.no_grad()
    def __call__(self, frames: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "T H W"]:
        """Return the nearness in each frame, float32 on the CPU: 0 the farthest, 1 the nearest.

        Args:
            frames: in [-1, 1].

        Raises:
            ModelError: the model cannot read them.
        """
        try:
            with quietly():
                return torch.stack([self._nearness(frame) for frame in frames])
        except LOADING_ERRORS as error:
            raise self._failed("cannot read a frame", error) from error

    def _nearness(self, frame: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
        levels = ((frame.cpu().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        picture = levels.permute(1, 2, 0).contiguous().numpy()
        inputs = self._images(images=picture, return_tensors="pt").to(self._device)
        found = self._model(**inputs).predicted_depth.float().cpu()
        if self.is_metric:
            found = 1 / found.clamp(min=_NEAREST)
        sized = F.interpolate(
            found[None], size=frame.shape[1:], mode="bilinear", align_corners=False
        )[0, 0]
        least, most = sized.aminmax()
        if most - least < _FLAT:
            return torch.zeros_like(sized)
        return (sized - least) / (most - least)

    def _failed(self, what: str, error: Exception) -> ModelError:
        return failure(f"depth model {self.name!r} {what}", error, fix=FIX)
