"""Models into folders: upscaling models whole, and the parts that all models share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.folder import TEXT_WEIGHTS, TOPOLOGY, FolderWriter, ModelFolder
from legato.models.inflate import VideoModel
from legato.models.manifest import Manifest
from legato.models.parts import Autoencoder
from legato.models.text import WordEncoder

CLIP_PREFIX = "text_model."


@dataclass(frozen=True, kw_only=True)
class UpscalerParts:
    """Everything that an upscaling model is made of."""

    unet: VideoModel
    autoencoder: Autoencoder
    text: WordEncoder | ModelFolder
    """A vocabulary, or a folder that holds `text_encoder/` and `tokenizer/`."""
    schedule: Mapping[str, Any]
    """Fields of the sampler's diffusers configuration."""
    low_res_schedule: Mapping[str, Any]
    """Those of the noise on the low-resolution clip."""


def save_upscaler(
    target: Path,
    parts: UpscalerParts,
    manifest: Manifest,
    *,
    dtype: torch.dtype | None = torch.float16,
) -> Manifest:
    """Write a model folder; nothing stands at the target until all of it is written.

    Args:
        target: folder to write; a model that is there is replaced.
        parts: what to write.
        manifest: its `legato.json`; the hashes are filled in.
        dtype: precision of the stored weights (mixing weights stay float32); None: as they are.

    Raises:
        InputError: the target is a folder of something else.
    """
    with FolderWriter(target) as writer:
        autoencoder = parts.autoencoder
        write_unet(writer, parts.unet, dtype)
        if isinstance(autoencoder, TemporalDecoder):
            write_decoder(writer, autoencoder, dtype)
        else:
            writer.write_part("vae", autoencoder.to_config(), autoencoder.state_dict(), dtype=dtype)
        write_text(writer, parts.text, dtype)
        writer.write_json("scheduler/scheduler_config.json", parts.schedule)
        writer.write_json("low_res_scheduler/scheduler_config.json", parts.low_res_schedule)
        return writer.finish(manifest)


def write_unet(
    writer: FolderWriter,
    unet: VideoModel,
    dtype: torch.dtype | None,
    *,
    part: str = "unet",
    layers: str | None = "temporal",
) -> None:
    """Write a U-Net, and its temporal layers if it has any, into a folder being written.

    Args:
        writer: of the folder.
        unet: what to write.
        dtype: precision of the stored weights.
        part: where the image model goes.
        layers: where the temporal layers go; None: they are not written.
    """
    writer.write_part(part, _config(unet.spatial), unet.spatial.state_dict(), dtype=dtype)
    if unet.sites and layers is not None:
        write_layers(writer, unet, layers, dtype)


def write_temporal(writer: FolderWriter, unet: VideoModel, dtype: torch.dtype | None) -> None:
    """Write the temporal layers alone, and the topology that they need."""
    write_layers(writer, unet, "temporal", dtype)
    writer.write_json(f"temporal/{TOPOLOGY}", _config(unet.spatial))


def write_layers(
    writer: FolderWriter, model: VideoModel, part: str, dtype: torch.dtype | None
) -> None:
    """Write temporal layers into a folder being written."""
    writer.write_part(part, model.temporal_config(), model.temporal_state(), dtype=dtype)


def write_text(
    writer: FolderWriter,
    text: WordEncoder | ModelFolder,
    dtype: torch.dtype | None,
    *,
    tuned: Mapping[str, Tensor] | None = None,
) -> None:
    """Write what embeds prompts into a folder being written.

    Args:
        writer: of the folder.
        text: a vocabulary, or a folder that holds `text_encoder/` and `tokenizer/`.
        dtype: precision of the stored weights.
        tuned: weights of CLIP's text transformer instead of the folder's.
    """
    if isinstance(text, WordEncoder):
        writer.write_part("words", text.to_config(), text.state_dict(), dtype=dtype)
        return
    config, state = text.config("text_encoder"), text.weights("text_encoder")
    if tuned is not None:  # the names that the folder uses: those of transformers changed once
        plain = {name.removeprefix(CLIP_PREFIX): value for name, value in tuned.items()}
        state = {key: plain.get(key.removeprefix(CLIP_PREFIX), state[key]) for key in state}
    writer.write_part("text_encoder", config, state, dtype=dtype, weights=TEXT_WEIGHTS)
    writer.copy(text.path("tokenizer"), "tokenizer")


def _config(network: Any) -> dict[str, Any]:  # noqa: ANN401 - diffusers is not typed
    values: dict[str, Any] = json.loads(network.to_json_string())
    return values


def write_decoder(
    writer: FolderWriter, decoder: TemporalDecoder, dtype: torch.dtype | None
) -> None:
    """Write an autoencoder of diffusers, and its temporal layers if it has any."""
    writer.write_part("vae", _config(decoder.spatial), decoder.spatial.state_dict(), dtype=dtype)
    if decoder.options != TemporalDecoderOptions(conv="none"):
        state = decoder.temporal_state()
        writer.write_part("temporal_decoder", decoder.temporal_config(), state, dtype=dtype)
