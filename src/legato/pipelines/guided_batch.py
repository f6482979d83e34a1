"""What holds the key frames of a batch together while they are denoised."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from legato.diffusion.background_smoother import BackgroundSmoother
from legato.diffusion.denoiser import Edit, Network
from legato.diffusion.fresco import FRESCO_PRESETS, Fresco
from legato.diffusion.guided_network import GuidedNetwork
from legato.diffusion.step_plan import RELEASED_PLAN
from legato.flow.estimate import FlowEstimator
from legato.flow.foreground import stand_out
from legato.models.image_model import ImageModel
from legato.pipelines.correspond import correspond_clip
from legato.pipelines.estimate_edits import Clip, edits_of
from legato.pipelines.guided_windows import guide_of


@dataclass(frozen=True, kw_only=True)
class BatchGuide:
    """Makes the network of a batch.

    Raises:
        InputError: the model has no self-attention in which frames could see each other.
    """

    model: ImageModel
    chosen: frozenset[str]
    """From `consistency.holds`."""
    preset: str
    """In `FRESCO_PRESETS`: how features are optimised."""
    estimate: FlowEstimator

    def __post_init__(self) -> None:
        self._fresco()

    @contextmanager
    def around(self, network: Network, clip: Clip) -> Iterator[tuple[Network, Sequence[Edit]]]:
        """Yield what the loop calls, and its edits, for one batch.

        Args:
            network: the model's U-Net, perhaps with a ControlNet.
            clip: the batch.
        """
        edits = edits_of(self.chosen, clip, self.model, self.estimate)
        fresco = self._fresco()
        if fresco is None:
            yield network, edits
            return
        known = correspond_clip(
            clip.frames,
            self.estimate,
            strides=fresco.options.strides,
            saliency=stand_out if "background" in self.chosen else None,
        )
        guided = GuidedNetwork(
            network=network,
            fresco=fresco,
            clip=known.to(clip.frames.device),
            reference=clip.reference,
            timesteps=clip.timesteps,
            num_steps=clip.num_steps,
            reference_network=self.model.unet,
        )
        if known.background is not None:
            smoother = BackgroundSmoother(
                decode=self.model.decode,
                encode=self.model.encode,
                smooth=known.background,
                plan=RELEASED_PLAN,
                num_steps=clip.num_steps,
            )
            edits.append(smoother)
        with fresco.attached():
            yield guided, edits

    def _fresco(self) -> Fresco | None:
        released = FRESCO_PRESETS[self.preset]
        return guide_of(
            self.model.unet.spatial,
            self.chosen,
            cell=self.model.scale,
            features=released.features,
            strides=released.strides,
        )
