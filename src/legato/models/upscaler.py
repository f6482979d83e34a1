"""An upscaling model as the pipelines use it: latents from a U-Net, frames from a decoder."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from legato.models.decoder import TemporalDecoder
from legato.models.inflate import VideoModel
from legato.models.manifest import UpscalerDefaults
from legato.models.offload import Offload
from legato.models.parts import Autoencoder, latent_facts
from legato.models.strip_decoder import attends, values_per_cell
from legato.models.text import WordEncoder
from legato.models.text_encoder import ClipText
from legato.models.tiny_autoencoder import TinyAutoencoder
from legato.models.tiny_stream import TinyDecoderStream, held_values


@dataclass(frozen=True, kw_only=True)
class UpscalerModel:
    """An upscaling model, ready to use; made by `load_upscaler`."""

    name: str
    licence: str
    sha256: str
    """Of all its files together; of a folder without hashes, empty."""
    scale: int
    """Output pixels per latent cell, each way."""
    defaults: UpscalerDefaults
    unet: VideoModel
    autoencoder: Autoencoder
    text: WordEncoder | ClipText
    schedule: Mapping[str, object]
    """Fields of the sampler's diffusers configuration."""
    low_res_schedule: Mapping[str, object]
    """Those of the noise on the low-resolution clip."""
    offload: Offload | None = None
    """Of U-Net and autoencoder; None: both stay in memory."""

    @property
    def is_temporal(self) -> bool:
        """Whether a frame can depend on its neighbours, in the U-Net or in the decoder."""
        return self.unet.is_temporal or self.autoencoder.is_temporal

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return latent_facts(self.autoencoder)[0]

    @property
    def decoder_width(self) -> int | None:
        """Numbers that the decoder's widest map has for every latent cell of a frame.

        None: it works at the latents' size, where memory is no concern.
        """
        if isinstance(self.autoencoder, TemporalDecoder):
            return values_per_cell(self.autoencoder.spatial)
        return None

    @property
    def approximates(self) -> bool:
        """Whether `decode` can be approximate: an attention over all places is in the decoder."""
        return isinstance(self.autoencoder, TemporalDecoder) and attends(self.autoencoder.spatial)

    @property
    def encode(self) -> Callable[[Tensor], Tensor] | None:
        """Frames `B T 3 H W` in [-1, 1] to scaled latents; None: the model has no encoder."""
        if isinstance(self.autoencoder, TinyAutoencoder) and not self.autoencoder.encoder:
            return None
        return self._encode

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Float[Tensor, "1 N D"]:
        """Return the embedded prompt.

        Raises:
            InputError: the model knows a closed vocabulary, and the prompt has another word.
        """
        return self.text.encode(prompt)

    def as_prompt(self, caption: str) -> str:
        """Return a free text as a prompt; of a closed vocabulary, its words in that text."""
        return self.text.as_prompt(caption)

    @torch.no_grad()
    def decode(
        self,
        latents: Float[Tensor, "B T C h w"],
        low_res: Float[Tensor, "B T 3 h w"],
        *,
        temporal: bool = True,
        approximate: bool = False,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return frames, about [-1, 1], of scaled latents.

        The embedded model's decoder takes them as if nothing moved: `open_stream` follows motion.

        Args:
            latents: as the U-Net predicts them.
            low_res: the clean frames that they belong to, in [-1, 1].
            temporal: False decodes every frame on its own.
            approximate: faster where frames are large; only where the model `approximates`.
        """
        self._need_autoencoder()
        if not isinstance(self.autoencoder, TemporalDecoder):
            return self.autoencoder.decode(latents, low_res, temporal=temporal)
        dtype = self.autoencoder.dtype
        with nullcontext() if temporal else self.autoencoder.disabled():
            return self.autoencoder.decode(
                latents.to(dtype), low_res.to(dtype), approximate=approximate
            )

    @property
    def held_values(self) -> int | None:
        """Numbers that a stream keeps for every latent cell of a frame.

        None: `open_stream` gives none.
        """
        if isinstance(self.autoencoder, TinyAutoencoder):
            return held_values(self.autoencoder.config)
        return None

    def open_stream(self, wanted: range) -> TinyDecoderStream | None:
        """Return a decoder of one clip piece by piece; None: this model decodes it whole.

        Args:
            wanted: frames of the clip that it gives out.
        """
        if isinstance(self.autoencoder, TinyAutoencoder):
            self._need_autoencoder()
            return TinyDecoderStream(self.autoencoder.decoder, wanted)
        return None

    @torch.no_grad()
    def _encode(self, frames: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T C h w"]:
        self._need_autoencoder()
        dtype = next(self.autoencoder.parameters()).dtype
        return self.autoencoder.encode(frames.to(dtype))

    def _need_autoencoder(self) -> None:
        """Have its weights in memory; the U-Net sees to its own."""
        if self.offload is not None:
            self.offload.use(self.autoencoder)
