"""A network whose frames read from each other: what `denoise` calls in place of the model itself.

For the frame attentions of `models.cross_frame_attention`; FRESCO has `guided_network`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor, nn

from legato.diffusion.denoiser import Network
from legato.models.attention_sites import SelfAttentionSite
from legato.models.frame_attention import ClipState, FrameAttention, install
from legato.models.micro_conditioning import ClipConditions
from legato.models.token_correspondence import ByTokens


@dataclass(frozen=True, kw_only=True)
class AttendingNetwork:
    """A `Network` for one clip that is denoised in one window and untiled, inside `attached()`."""

    network: Network
    """The video network around `unet`."""

    unet: nn.Module
    """Of diffusers; of a `VideoModel` its `spatial`."""

    attention: FrameAttention
    """What a frame reads from."""

    sites: Sequence[SelfAttentionSite]
    """Where."""

    num_frames: int
    timesteps: Sequence[int]
    """Those of the loop, falling."""

    tokens: ByTokens = field(default_factory=dict)
    """What belongs together, where the attention asks for it."""

    _state: ClipState = field(default_factory=ClipState, init=False, repr=False)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within the block, calls make frames read from each other; after it, all is as before."""
        undo = install(self.unet, self.sites, self.attention, self._state)
        try:
            yield
        finally:
            undo()

    def __call__(
        self,
        sample: Float[Tensor, "B T C h w"],
        timestep: Int[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B N D"],
        class_labels: Int[Tensor, " B"] | None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Float[Tensor, "B T c h w"]:
        """Return the prediction."""
        self._state.num_frames, self._state.correspondences = self.num_frames, self.tokens
        self._state.step = self.timesteps.index(int(timestep[0]))
        try:
            return self.network(
                sample, timestep, encoder_hidden_states, class_labels, conditions=conditions
            )
        finally:
            self._state.num_frames = 0
