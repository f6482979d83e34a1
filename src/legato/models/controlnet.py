"""ControlNets of diffusers: pictures of a structure that an image model shall keep.

Zhang et al. 2023, arXiv:2302.05543. Its residuals join the U-Net's through a pre-hook.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import ModelError
from legato.models.folder import ModelFolder
from legato.models.image_model import ImageModel
from legato.models.parts import (
    build_part,
    fill_part_,
    ready_,
)

LABELS = ("class_embed_type", "num_class_embeds")
"""Of what the image models here know nothing."""


@dataclass(frozen=True, kw_only=True)
class ControlNet:
    """A ControlNet for one U-Net; made by `load_controlnet`."""

    network: ControlNetModel
    unet: nn.Module
    """Of diffusers."""
    scale: float = 1.0
    """How strongly it acts."""

    @contextmanager
    def given(self, maps: Float[Tensor, "T 3 H W"]) -> Iterator[None]:
        """Within the block, the U-Net keeps the structure of these maps.

        Args:
            maps: 0 to 1, one for each frame of a call; halves of guidance see the same.
        """

        def add(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            sample, timestep, text = args[:3]
            shown = maps.to(sample).repeat(len(sample) // len(maps), 1, 1, 1)
            down, middle = self.network(
                *(sample, timestep, text, shown),
                conditioning_scale=self.scale,
                added_cond_kwargs=kwargs.get("added_cond_kwargs"),
                return_dict=False,
            )
            residuals = {
                "down_block_additional_residuals": down,
                "mid_block_additional_residual": middle,
            }
            return args, kwargs | residuals

        handle = self.unet.register_forward_pre_hook(add, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def load_controlnet(
    root: Path, model: ImageModel, *, scale: float, device: torch.device, dtype: torch.dtype
) -> ControlNet:
    """Load a ControlNet from a folder of diffusers, frozen and in evaluation mode.

    Args:
        root: folder with `config.json` and the weights.
        model: what it steers.
        scale: how strongly.
        device: where to put it.
        dtype: precision of the weights.

    Raises:
        ModelError: it is missing, damaged, or made for another kind of model.
    """
    folder = ModelFolder(root.expanduser())
    network = build_part(folder, "", {"ControlNetModel"})
    assert isinstance(network, ControlNetModel)
    require_controlnet(root, network, model)
    fill_part_(network, folder.weights(""), str(root))
    return ControlNet(network=ready_(network, device, dtype), unet=model.unet.spatial, scale=scale)


def require_controlnet(root: Path, network: ControlNetModel, model: ImageModel) -> None:
    """Refuse a ControlNet that was made for another kind of model.

    Raises:
        ModelError: it was.
    """
    ours: Any = model.unet.spatial.config
    theirs: Any = network.config
    names = (
        *("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"),
        *("addition_embed_type", "projection_class_embeddings_input_dim"),
    )
    facts = [(name, getattr(theirs, name), getattr(ours, name)) for name in names]
    pixels_per_cell = 2 ** (len(theirs.conditioning_embedding_out_channels) - 1)
    facts.append(("pixels per latent cell", pixels_per_cell, model.scale))
    order = theirs.controlnet_conditioning_channel_order
    facts.append(("the order of a map's channels", order, "bgr" if order == "bgr" else "rgb"))
    facts += [(name, getattr(theirs, name), None) for name in LABELS]
    facts.append(("channels of maps", theirs.conditioning_channels, 3))
    for name, value, needed in facts:
        if _plain(value) != _plain(needed):
            raise ModelError(
                f"ControlNet {root}: {name} is {value}",
                why=f"model {model.name!r} needs {needed}",
                fix="use a ControlNet that was trained for this kind of model",
            )


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
