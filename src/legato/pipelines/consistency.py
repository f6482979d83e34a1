"""What holds the key frames of a batch together while they are denoised, by name."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from legato.diffusion.attending_network import AttendingNetwork
from legato.diffusion.background_smoother import BackgroundSmoother
from legato.diffusion.denoiser import Edit, Network
from legato.diffusion.fresco import FRESCO_PRESETS, Fresco, FrescoOptions
from legato.diffusion.guided_network import GuidedNetwork
from legato.errors import ModelError
from legato.flow.estimate import FlowEstimator
from legato.models.attention_sites import Part, SelfAttentionSite, find_self_attentions
from legato.models.cross_frame_attention import (
    NearestTokens,
    all_frames,
    along_trajectories,
    first_and_previous,
    first_frame,
)
from legato.models.frame_attention import FrameAttention
from legato.models.image_model import ImageModel
from legato.pipelines.correspond import correspond_clip
from legato.pipelines.translate_options import Consistency

EVERYWHERE: tuple[Part, ...] = ("down", "mid", "up")


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A frame attention, and in which parts of the U-Net it acts, as in its authors' system."""

    make: Callable[[int], FrameAttention]
    """From the seed."""
    parts: tuple[Part, ...] = EVERYWHERE
    strides: tuple[int, ...] = ()
    """Pixels per token of the grids whose correspondences it asks for."""


NEIGHBOURS: dict[Consistency, Neighbour] = {
    "first": Neighbour(make=lambda _: first_frame),
    "first-previous": Neighbour(make=lambda _: first_and_previous, parts=("up",)),
    "all": Neighbour(make=lambda _: all_frames),
    "trajectories": Neighbour(make=lambda _: along_trajectories, strides=(8,)),
    "nearest-tokens": Neighbour(make=lambda seed: NearestTokens(seed=seed)),
}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames that are denoised together."""

    frames: Float[Tensor, "T 3 H W"]
    """In [-1, 1], on the model's device."""
    reference: Float[Tensor, "1 T C h w"]
    """Their latents with the little noise of the last timestep."""
    timesteps: Sequence[int]
    """Those of the loop, falling."""
    num_steps: int
    """Of the whole schedule."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Makes the network of a batch."""

    model: ImageModel
    consistency: Consistency
    preset: str
    seed: int
    estimate: FlowEstimator

    def __post_init__(self) -> None:
        if self.consistency == "fresco":
            self._fresco()  # refuses a model without the self-attentions that it guides
        elif self.consistency != "none":
            self._sites(NEIGHBOURS[self.consistency])

    @contextmanager
    def around(self, network: Network, clip: Clip) -> Iterator[tuple[Network, Sequence[Edit]]]:
        """Yield what the loop calls, and its edits, for one batch.

        Args:
            network: the model's U-Net, perhaps with a ControlNet.
            clip: the batch.
        """
        if self.consistency == "none":
            yield network, ()
        elif self.consistency == "fresco":
            with self._guided(network, clip) as held:
                yield held
        else:
            with self._attending(network, clip) as attending:
                yield attending, ()

    @contextmanager
    def _guided(self, network: Network, clip: Clip) -> Iterator[tuple[Network, Sequence[Edit]]]:
        fresco = self._fresco()
        known = correspond_clip(clip.frames, self.estimate, strides=fresco.options.strides)
        guided = GuidedNetwork(
            network=network,
            fresco=fresco,
            clip=known.to(clip.frames.device),
            reference=clip.reference,
            timesteps=clip.timesteps,
            num_steps=clip.num_steps,
            reference_network=self.model.unet,
        )
        edits: list[Edit] = []
        if known.background is not None:
            smoother = BackgroundSmoother(
                decode=self.model.decode,
                encode=self.model.encode,
                smooth=known.background,
                plan=fresco.options.plan,
                num_steps=clip.num_steps,
            )
            edits.append(smoother)
        with fresco.attached():
            yield guided, edits

    @contextmanager
    def _attending(self, network: Network, clip: Clip) -> Iterator[AttendingNetwork]:
        neighbour = NEIGHBOURS[self.consistency]
        tokens = {}
        if neighbour.strides:
            known = correspond_clip(
                clip.frames, self.estimate, strides=neighbour.strides, saliency=None
            )
            tokens = dict(known.to(clip.frames.device).tokens)
        attending = AttendingNetwork(
            network=network,
            unet=self.model.unet.spatial,
            attention=neighbour.make(self.seed),
            sites=self._sites(neighbour),
            num_frames=len(clip.frames),
            timesteps=clip.timesteps,
            tokens=tokens,
        )
        with attending.attached():
            yield attending

    def _fresco(self) -> Fresco:
        options: FrescoOptions = FRESCO_PRESETS[self.preset]
        return Fresco(self.model.unet.spatial, options, cell=self.model.scale)

    def _sites(self, neighbour: Neighbour) -> list[SelfAttentionSite]:
        unet, cell = self.model.unet.spatial, self.model.scale
        sites = find_self_attentions(unet, cell=cell)
        chosen = [site for site in sites if site.part in neighbour.parts]
        if not chosen:
            raise ModelError(
                f"model {self.model.name!r} with consistency={self.consistency!r}",
                why="its U-Net has no self-attention there",
                fix="use another model or consistency='none'",
            )
        return chosen
