"""What the tensor core needs of an upscaling model."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from legato.diffusion.denoiser import Network
from legato.pipelines.restore_options import ModelDefaults


@runtime_checkable
class VideoNetwork(Network, Protocol):
    """A network whose temporal layers can be switched off."""

    @property
    def spatial(self) -> nn.Module:
        """The image model's U-Net inside."""
        ...

    def disabled(self) -> AbstractContextManager[None]:
        """Within the block, frames are independent."""
        ...


@runtime_checkable
class DecoderStream(Protocol):
    """Decodes one clip piece by piece."""

    def __call__(
        self,
        latents: Float[Tensor, "T C h w"],
        low_res: Float[Tensor, "T 3 h w"],
        motion: Float[Tensor, "T 6 h w"],
        *,
        is_last: bool,
    ) -> Float[Tensor, "t 3 H W"]:
        """Return the wanted frames that are complete; with the last piece all that remain."""
        ...


@runtime_checkable
class Upscaler(Protocol):
    """An upscaling model, loaded; `legato.models.upscaler.UpscalerModel` is one."""

    @property
    def unet(self) -> VideoNetwork:
        """Predicts from noisy latents stacked over the noised low-resolution clip."""
        ...

    @property
    def is_temporal(self) -> bool:
        """Whether it has layers through which a frame depends on its neighbours."""
        ...

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        ...

    @property
    def decoder_width(self) -> int | None:
        """Numbers that the decoder's widest map has for every latent cell of a frame.

        None: it works at the latents' size.
        """
        ...

    @property
    def approximates(self) -> bool:
        """Whether `decode` can be approximate."""
        ...

    @property
    def encode(self) -> Callable[[Tensor], Tensor] | None:
        """Frames "B T 3 H W" in [-1, 1] to latents; None where the model carries no encoder."""
        ...

    @property
    def schedule(self) -> Mapping[str, object]:
        """Fields of a diffusers scheduler configuration."""
        ...

    @property
    def low_res_schedule(self) -> Mapping[str, object]:
        """Those of the low-resolution clip's noise."""
        ...

    @property
    def scale(self) -> int:
        """Output pixels per latent cell, each way."""
        ...

    @property
    def defaults(self) -> ModelDefaults:
        """Settings that the model was made for."""
        ...

    def encode_prompt(self, prompt: str) -> Float[Tensor, "1 N D"]:
        """Embed words."""
        ...

    def decode(
        self,
        latents: Float[Tensor, "B T C h w"],
        low_res: Float[Tensor, "B T 3 h w"],
        *,
        temporal: bool = True,
        approximate: bool = False,
    ) -> Float[Tensor, "B T 3 H W"]:
        """Return frames, about [-1, 1]; without `temporal` each on its own."""
        ...

    def open_stream(self, wanted: range) -> DecoderStream | None:
        """Return a decoder of one clip piece by piece; None where there is none.

        Args:
            wanted: frames of the clip that it gives out.
        """
        ...
