"""An upscaling model as one set of options uses it: in one precision, its frames joint or not."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from legato.diffusion.spans import Tile
from legato.errors import InputError
from legato.models.micro_conditioning import ClipConditions
from legato.pipelines.approximation import Approximation
from legato.pipelines.decode import Decoder
from legato.pipelines.restore_options import RestoreOptions, Settings
from legato.pipelines.upscaler import DecoderStream, Upscaler

REFERENCE_CHUNK = 3
"""Frames that the released Upscale-A-Video decodes at a time, without context."""


@dataclass(frozen=True, kw_only=True)
class AppliedModel:
    """The model's U-Net as a loop calls it, and its decoder."""

    model: Upscaler

    settings: Settings

    dtype: torch.dtype
    """Of the decoder's input; the loop sees to the U-Net's."""

    as_reference: bool
    """Whether frames are decoded a few at a time, without context, as the released code does."""

    approximation: Approximation | None
    """Where decoding is approximate: measured on the first frames."""

    @classmethod
    def of(
        cls, model: Upscaler, options: RestoreOptions, settings: Settings, *, dtype: torch.dtype
    ) -> "AppliedModel":
        """Return a model as options use it.

        Raises:
            InputError: its decoder shall be approximate and cannot be.
        """
        if options.approximate and not model.approximates:
            raise InputError(
                "approximate=True",
                why="this model's decoder has no attention over all places that means could serve",
                fix="leave it out",
            )
        return cls(
            model=model,
            settings=settings,
            dtype=dtype,
            as_reference=options.compat == "reference",
            approximation=Approximation() if options.approximate else None,
        )

    def predict(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Tensor:
        """Call the U-Net, its temporal layers off where frames are to be independent."""
        unet, text = self.model.unet, encoder_hidden_states
        with nullcontext() if self.settings.is_temporal else unet.disabled():
            return unet(sample, timestep, text, class_labels, conditions=conditions)

    def decoder(self, tiles: Sequence[Tile], size: tuple[int, int]) -> Decoder:
        """Return the decoder of a clip.

        Args:
            tiles: plan over latent cells.
            size: rows and columns of the input before padding.
        """
        temporal = self.settings.is_temporal
        streams = (
            temporal and not self.as_reference and self.model.open_stream(range(0)) is not None
        )
        return Decoder(
            decode=self._decode,
            tiles=list(tiles),
            context=0 if self.as_reference else self.settings.decoder_context,
            scale=self.model.scale,
            size=size,
            at_full_size=self.model.decoder_width is not None,
            open_stream=self._open_stream if streams else None,
            together=REFERENCE_CHUNK if self.as_reference else None,
        )

    def _decode(
        self, latents: Float[Tensor, "1 T C h w"], low_res: Float[Tensor, "1 T 3 h w"]
    ) -> Float[Tensor, "1 T 3 sh sw"]:
        clip, temporal = (latents.to(self.dtype), low_res.to(self.dtype)), self.settings.is_temporal
        decode = partial(self.model.decode, *clip, temporal=temporal)
        if self.approximation is None:
            return decode()
        frames = decode(approximate=True)
        if not self.approximation.sentence:
            self.approximation.measure(frames, decode())
        return frames

    def _open_stream(self, wanted: range) -> DecoderStream:
        stream, dtype = self.model.open_stream(wanted), self.dtype
        assert stream is not None

        def decode(latents: Tensor, low_res: Tensor, motion: Tensor, *, is_last: bool) -> Tensor:
            return stream(latents.to(dtype), low_res.to(dtype), motion, is_last=is_last)

        return decode
