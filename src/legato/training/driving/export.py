"""The trained image model of driving scenes as a folder in diffusers layout, and back."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from legato.diffusion.schedule import Schedule
from legato.models.box_layout import BoxLayout
from legato.models.folder import FolderWriter, ModelFolder
from legato.models.manifest import Manifest
from legato.models.text import WordEncoder
from legato.training.driving.model import DrivingModel
from legato.training.export import scheduler_config

NAME = "driving-image"


def write_driving(writer: FolderWriter, model: DrivingModel, dtype: torch.dtype) -> None:
    """Write the parts `unet`, `vae`, `words`, `layout` and `scheduler` into a folder being written.

    Args:
        writer: of the folder.
        model: what to write.
        dtype: precision of the stored weights.
    """
    for part, network in (("unet", model.unet), ("vae", model.vae)):
        config = json.loads(network.to_json_string())
        writer.write_part(part, config, network.state_dict(), dtype=dtype)
    for part, small in (("words", model.words), ("layout", model.layout)):
        writer.write_part(part, small.to_config(), small.state_dict(), dtype=dtype)
    schedule = {"_class_name": "DDIMScheduler", **scheduler_config(model.schedule)}
    writer.write_json("scheduler/scheduler_config.json", schedule)


def export_driving(model: DrivingModel, target: Path) -> Path:
    """Write the image model in half precision; return the folder."""
    manifest = Manifest(name=NAME, family="image", job="image", licence="Apache-2.0")
    with FolderWriter(target) as writer:
        write_driving(writer, model, torch.float16)
        writer.finish(manifest)
    return target


def load_driving(root: Path) -> DrivingModel:
    """Return the model that `write_driving` wrote, in float32.

    Raises:
        ModelError: a part is missing or damaged.
    """
    folder = ModelFolder(root)
    model = DrivingModel(
        UNet2DConditionModel.from_config(folder.config("unet")),
        AutoencoderKL.from_config(folder.config("vae")),
        WordEncoder.from_config(folder.config("words")),
        BoxLayout.from_config(folder.config("layout")),
        Schedule.from_config(folder.config("scheduler", "scheduler_config.json")),
    )
    for part in ("unet", "vae", "words", "layout"):
        model.get_submodule(part).load_state_dict(folder.weights(part))
    return model.float()
