"""An image model that becomes a generating model, part by part, and its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from legato.diffusion.schedule import Schedule
from legato.models.decoder import TemporalDecoder, TemporalDecoderOptions
from legato.models.folder import ModelFolder
from legato.models.generator_folder import GeneratorParts, save_generator
from legato.models.image_model import ImageModel
from legato.models.inflate import VideoModel, inflate
from legato.models.manifest import GeneratorDefaults, Manifest
from legato.models.parts import load_layout, ready_
from legato.models.text import WordEncoder
from legato.models.trainable_text import TrainableText
from legato.training.generator_stages import VideoLdm


@dataclass(kw_only=True)
class GeneratorSystem:
    """What a Video LDM is trained from; what no stage has begun yet is None."""

    image: ImageModel
    text: TrainableText
    """Embeds its prompts."""
    key_frames: VideoModel | None = None
    """Its U-Net with the temporal layers of key frames and prediction, as published."""
    interpolation: VideoModel | None = None
    """That U-Net, or a copy, with the temporal layers of the frames between."""
    decoder: TemporalDecoder | None = None
    """Its autoencoder with a temporal decoder."""

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.image.unet.device

    @property
    def autoencoder(self) -> TemporalDecoder:
        """The best autoencoder that there is."""
        return self.decoder or self.image.autoencoder

    def with_text(self, unet: VideoModel) -> VideoLdm:
        """Return what a denoising stage computes with."""
        schedule = Schedule.from_config(self.image.schedule)
        return VideoLdm(unet, self.autoencoder, self.text, schedule)

    def begin_key_frames_(self) -> VideoModel:
        """Return the model of key frames, with fresh layers from torch's seed if it has none."""
        if self.key_frames is None:
            self.key_frames = self._inflated(self.image.unet.detach())
        return self.key_frames

    def begin_interpolation_(self, *, own_image_model: bool) -> VideoModel:
        """Return the model of the frames between; it begins with the layers of key frames.

        Args:
            own_image_model: whether its image model is a copy, which can learn too.
        """
        if self.interpolation is None:
            spatial = self.image.unet.spatial
            if own_image_model:
                spatial = self._copied(spatial)
            self.interpolation = self._inflated(spatial, sees_stage=True)
            if self.key_frames is not None:
                layers = self.interpolation.temporal  # they have all of these, and the stage's
                learned = self.key_frames.temporal.state_dict()
                layers.load_state_dict(layers.state_dict() | learned)
        return self.interpolation

    def begin_decoder_(self) -> TemporalDecoder:
        """Return the temporal decoder, a fresh one from torch's seed if there is none."""
        if self.decoder is None:
            autoencoder: Any = self.image.autoencoder.detach()
            self.decoder = TemporalDecoder(autoencoder, TemporalDecoderOptions()).to(self.device)
        return self.decoder

    def _inflated(self, spatial: nn.Module, **told: bool) -> VideoModel:
        channels = self.image.latent_channels + 1
        layers = {"context_channels": channels, "sees_frame_rate": True, **told}
        return inflate(spatial, "video_ldm", **layers).to(self.device)

    def _copied(self, spatial: Any) -> UNet2DConditionModel:  # noqa: ANN401 - diffusers'
        copy = UNet2DConditionModel.from_config(spatial.config)
        assert isinstance(copy, UNet2DConditionModel)
        copy.load_state_dict(spatial.state_dict())
        return ready_(copy, self.device, torch.float32)


def export_generator(system: GeneratorSystem, target: Path, defaults: GeneratorDefaults) -> Path:
    """Write what there is of the model in half precision; return the folder.

    It keeps the licence of the image model, and what that has been told of boxes.

    Args:
        system: what was trained.
        target: folder to write.
        defaults: what it was trained for.
    """
    image = system.image
    base = ModelFolder(image.root)
    manifest = Manifest(
        name=target.absolute().parent.name,
        family="video_ldm",
        licence=image.licence,
        job="generate",
        scale=image.scale,
        prediction_type=str(image.schedule.get("prediction_type", "epsilon")),
        defaults=defaults,
    )
    parts = GeneratorParts(
        unet=system.key_frames or inflate(image.unet.spatial, "image"),
        autoencoder=system.autoencoder,
        text=image.text if isinstance(image.text, WordEncoder) else base,
        schedule=image.schedule,
        interpolation=system.interpolation,
        layout=load_layout(base) if base.has("layout") else None,
    )
    save_generator(target, parts, manifest, dtype=torch.float16)
    return target
