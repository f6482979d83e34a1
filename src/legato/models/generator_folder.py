"""Generating models from folders, and into folders.

| part | what |
|---|---|
| `unet/` `vae/` `scheduler/` | image model, `AutoencoderKL` and noise schedule, as diffusers |
| `words/`, or `text_encoder/` and `tokenizer/` | what embeds prompts |
| `temporal/` | layers of key frames and prediction |
| `interpolation/` | layers of the frames between; `interpolation/unet/` where all was trained |
| `temporal_decoder/` | layers of the decoder |
| `layout/` | what tells the image model of boxes |
| `upsampler/` | a whole upscaling model |
| `image_encoder/` `feature_extractor/` | what embeds the picture that a video is made of |

The last five are optional.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from legato.errors import ModelError
from legato.models.box_layout import BoxLayout
from legato.models.decoder import TemporalDecoder
from legato.models.folder import PICTURE_ENCODER, FolderWriter, ModelFolder
from legato.models.generator import GeneratorModel
from legato.models.inflate import VideoModel
from legato.models.load import refuse_layers, require_job
from legato.models.manifest import MANIFEST, GeneratorDefaults, Manifest
from legato.models.parts import (
    SCHEDULE,
    decoder_dtype,
    latent_facts,
    load_autoencoder,
    load_image_unet,
    load_layers,
    load_layout,
    load_text,
    load_unet,
    ready_,
)
from legato.models.picture_encoder import PictureEncoder
from legato.models.save import write_decoder, write_layers, write_text, write_unet
from legato.models.spec import find_folder
from legato.models.text import WordEncoder

INTERPOLATION, UPSAMPLER = "interpolation", "upsampler"
INTERPOLATION_UNET = f"{INTERPOLATION}/unet"
"""Where the frames between have an image model of their own."""


@dataclass(frozen=True, kw_only=True)
class GeneratorParts:
    """Everything that a generating model is made of."""

    unet: VideoModel
    """Image model with the temporal layers of key frames and prediction."""
    autoencoder: TemporalDecoder
    text: WordEncoder | ModelFolder
    """A vocabulary, or a folder that holds `text_encoder/` and `tokenizer/`."""
    schedule: Mapping[str, Any]
    """Fields of the sampler's diffusers configuration."""
    interpolation: VideoModel | None = None
    """The model of the frames between; its image model is saved too unless it is `unet`'s own."""
    layout: BoxLayout | None = None
    """What tells the image model of boxes."""
    upsampler: Path | None = None
    """Folder of an upscaling model."""


def load_generator(
    name_or_path: str, device: torch.device, dtype: torch.dtype, *, spatial: str | None = None
) -> GeneratorModel:
    """Load a generating model, frozen and in evaluation mode.

    Args:
        name_or_path: name in `SPECS`, or path of a folder.
        device: where to put it.
        dtype: precision of the weights.
        spatial: name or path of an image model, or of a model that holds one, which the temporal
            layers act on instead; it also embeds what its own layers read of the prompt.

    Raises:
        ModelError: it is missing, damaged, or not a generating model; or the other image model
            is, or has another topology.
    """
    root = find_folder(name_or_path)
    folder = ModelFolder(root)
    refuse_layers(folder, "generate")
    if folder.manifest is None:
        raise ModelError(
            f"{root / MANIFEST} is missing",
            why="it tells the size and rate that the model was made for",
            fix="use a folder that save_generator wrote",
        )
    manifest = folder.manifest
    require_job(manifest, "generate")
    image = folder
    if spatial is not None:
        image = ModelFolder(find_folder(spatial))
        refuse_layers(image, "make images")
    unet, autoencoder = load_unet(folder, image=image), load_autoencoder(folder)
    if not isinstance(autoencoder, TemporalDecoder):
        raise ModelError(
            f"{folder.path('vae')} cannot decode alone",
            why="its decoder needs low-resolution frames, which nothing gives here",
            fix="use an AutoencoderKL",
        )
    interpolation = load_interpolation(folder, unet, image)
    picture = None
    if folder.has(PICTURE_ENCODER):
        picture = PictureEncoder(folder, device, dtype)
    networks = [unet] if interpolation is None else [unet, interpolation]
    require_fitting(manifest, autoencoder, networks, picture=picture)
    layout = load_layout(image) if image.has("layout") else None
    for network in (unet, interpolation, layout):
        if network is not None:
            ready_(network, device, dtype)
    return GeneratorModel(
        root=root,
        name=manifest.name,
        licence=manifest.licence,
        sha256=manifest.fingerprint,
        scale=manifest.scale,
        latent_channels=latent_facts(autoencoder)[0],
        defaults=manifest.generating,
        unet=unet,
        interpolation=interpolation,
        interpolation_is_own=interpolation is not None and folder.has(INTERPOLATION_UNET),
        autoencoder=ready_(autoencoder, device, decoder_dtype(autoencoder, dtype)),
        text=load_text(image, device, dtype),
        temporal_text=load_text(folder, device, dtype) if spatial else None,
        schedule=folder.config("scheduler", SCHEDULE),
        layout=layout,
        upsampler=folder.path(UPSAMPLER) if folder.has(UPSAMPLER) else None,
        picture=picture,
    )


def load_interpolation(
    folder: ModelFolder, unet: VideoModel, image: ModelFolder
) -> VideoModel | None:
    """Return the model of the frames between key frames; None: the folder holds none.

    Args:
        folder: of a generating model.
        unet: of its key frames, whose image model is shared unless there is another.
        image: where that image model lies.

    Raises:
        ModelError: a part is missing, damaged or does not fit, or it takes no given frames.
    """
    if not folder.has(INTERPOLATION):
        return None
    spatial = unet.spatial
    if folder.has(INTERPOLATION_UNET):
        spatial = load_image_unet(folder, INTERPOLATION_UNET)
    elif unet.options.norm_stats == "clip":  # both models' norms cannot hang on one network
        spatial = load_image_unet(image, "unet")
    model = load_layers(folder, INTERPOLATION, spatial)
    if model.context_channels is None:
        raise ModelError(
            f"{folder.path(INTERPOLATION)} takes no given frames",
            why="frames between key frames need them",
            fix="use layers that were made with context_channels",
        )
    return model


def require_fitting(
    manifest: Manifest,
    autoencoder: TemporalDecoder,
    networks: list[VideoModel],
    *,
    picture: PictureEncoder | None = None,
) -> None:
    """Refuse parts that do not belong together.

    Raises:
        ModelError: channels or scale of the latents differ, or widths of the embedded picture.
    """
    latent, scale = latent_facts(autoencoder)
    seen = latent if picture is None else 2 * latent  # a picture's latents lie beside the own
    facts = [("the decoder's scale", scale, manifest.scale)]
    for network in networks:
        shape: Any = network.spatial.config
        facts += [
            ("the U-Net's input channels", shape.in_channels, seen),
            ("the U-Net's output channels", shape.out_channels, latent),
            ("the context's channels", network.context_channels or latent + 1, latent + 1),
        ]
        if picture is not None:
            width = ("the U-Net's text width", shape.cross_attention_dim, picture.width)
            facts.append(width)
    for name, value, needed in facts:
        if value != needed:
            raise ModelError(
                f"model {manifest.name!r}: {name} is {value}",
                why=f"the other parts need {needed}",
                fix="use parts that belong together",
            )


def save_generator(
    target: Path,
    parts: GeneratorParts,
    manifest: Manifest,
    *,
    dtype: torch.dtype | None = torch.float16,
) -> Manifest:
    """Write a model folder; nothing stands at the target until all of it is written.

    Args:
        target: folder to write; a model that is there is replaced.
        parts: what to write.
        manifest: its `legato.json`, with job `generate` and `GeneratorDefaults`; the hashes are
            filled in.
        dtype: precision of the stored weights (mixing weights stay float32); None: as they are.

    Raises:
        InputError: the target is a folder of something else.
        ModelError: parts do not belong together.
    """
    require_job(manifest, "generate")
    assert isinstance(manifest.defaults, GeneratorDefaults)
    interpolation = parts.interpolation
    networks = [parts.unet] if interpolation is None else [parts.unet, interpolation]
    require_fitting(manifest, parts.autoencoder, networks)
    with FolderWriter(target) as writer:
        write_unet(writer, parts.unet, dtype)
        write_decoder(writer, parts.autoencoder, dtype)
        write_text(writer, parts.text, dtype)
        writer.write_json(f"scheduler/{SCHEDULE}", parts.schedule)
        if interpolation is not None:
            write_layers(writer, interpolation, INTERPOLATION, dtype)
            if interpolation.spatial is not parts.unet.spatial:
                write_unet(writer, interpolation, dtype, part=INTERPOLATION_UNET, layers=None)
        if parts.layout is not None:
            layout = parts.layout
            writer.write_part("layout", layout.to_config(), layout.state_dict(), dtype=dtype)
        if parts.upsampler is not None:
            writer.copy(parts.upsampler, UPSAMPLER)
        return writer.finish(manifest)
