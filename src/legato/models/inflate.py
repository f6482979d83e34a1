"""Inflation: any image model of diffusers becomes a video model without being changed.

The image model stays as it is and sees frames as a batch. At its *sites* hooks add the residuals of
temporal layers, which live in a module dictionary of their own and are saved alone. Off, or outside
a clip, the hooks do nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from legato.errors import InputError, ModelError
from legato.models.families import FAMILIES, NormStats, VideoLdmOptions, options_from
from legato.models.few_frames import attach_few_frames
from legato.models.hooks import (
    CheckpointInContext,
    ClipContext,
    Owner,
    attach,
    attach_clip_norms,
)
from legato.models.micro_conditioning import ClipConditions, MicroConditioning
from legato.models.sites import Site, find_sites, fingerprint
from legato.models.static_text import StaticText, attach_static_text
from legato.models.text_and_size import split_text

FORMAT_VERSION = 1
MICRO = "micro"
"""Key of the micro-conditioning among the temporal weights; no site has it."""


@runtime_checkable
class LayerOptions(Protocol):
    """Frozen options that build the layer of each site."""

    @property
    def norm_stats(self) -> NormStats:
        """What the spatial norms see."""

    def build(self, site: Site) -> nn.Module | None:
        """Return the fresh layer of a site; None: none there."""


class Inflated(Owner):
    """An untouched image model, its temporal layers, and the hooks between them.

    Args:
        spatial: the image model; its parameters and their names stay as they are.
        family: name in `FAMILIES`, for the record.
        options: options of the family; they build the layers.
        sites: where layers go.
    """

    def __init__(
        self, spatial: nn.Module, family: str, options: LayerOptions, sites: list[Site]
    ) -> None:
        super().__init__()
        self.spatial, self.family, self.options = spatial, family, options
        self.temporal = nn.ModuleDict()
        self.sites: list[Site] = []
        self.enabled = True
        self.skip: frozenset[str] = frozenset()
        self.context: ClipContext | None = None
        for site in sites:
            layer = options.build(site)
            if layer is not None:
                self.temporal[site.key] = layer
                self.sites.append(site)
        self._removers: list[Callable[[], None]] = []
        self._attach()

    def _attach(self) -> None:
        modules = dict(self.spatial.named_modules())
        self._removers = [attach(self, site, modules[site.path]) for site in self.sites]
        sees_clip = self.options.norm_stats == "clip"
        if sees_clip:
            self._removers += attach_clip_norms(self, self.norms_of())
        self._removers += attach_few_frames(
            self.norms_of() if sees_clip else self.spatial, together=sees_clip
        )

    def norms_of(self) -> nn.Module:
        """Return the part of the image model whose norms may see the whole clip."""
        return self.spatial

    def detach(self) -> nn.Module:
        """Take every hook off and return the image model; this object is of no use afterwards."""
        for remove in self._removers:
            remove()
        self._removers = []
        return self.spatial

    @contextmanager
    def clip(self, context: ClipContext) -> Iterator[None]:
        """Within the block, frames that pass through the image model belong to a clip."""
        before, self.context = self.context, context if self.enabled else None
        try:
            yield
        finally:
            self.context = before

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within the block, this is the image model."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Trade compute for memory in training: repeat forward passes, keep no activations."""
        if on:
            self.spatial.enable_gradient_checkpointing(CheckpointInContext(self))  # type: ignore[operator]
        else:
            self.spatial.disable_gradient_checkpointing()  # type: ignore[operator]

    @property
    def is_temporal(self) -> bool:
        """Whether a frame can depend on its neighbours."""
        layered = any(site.kind != "cond.sft" for site in self.sites)  # that one sees a frame only
        return layered or self.options.norm_stats == "clip"

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def temporal_config(self) -> dict[str, Any]:
        """Return what describes the temporal layers beside their weights."""
        return {
            "format_version": FORMAT_VERSION,
            "family": self.family,
            "options": asdict(self.options),  # type: ignore[call-overload]
            "fingerprint": fingerprint(self.sites),
            "sites": [[site.kind, site.path, site.channels] for site in self.sites],
            **_widths(self.sites),
        }

    def temporal_state(self) -> dict[str, Tensor]:
        """Return the temporal weights alone; mixing weights in float32."""
        state = self.temporal.state_dict()
        return {
            key: value.float() if key.endswith("mix_factor") else value
            for key, value in state.items()
        }

    def load_temporal_(self, state: dict[str, Tensor], config: dict[str, Any]) -> None:
        """Take over temporal weights that were trained on an image model of the same topology.

        Raises:
            ModelError: the weights belong to another topology, family or set of options.
        """
        ours = self.temporal_config()
        if config.get("fingerprint") != ours["fingerprint"]:
            raise _misfit(config, ours)
        check_state(state, self.temporal.state_dict(), what="temporal weights")
        is_meta = any(p.is_meta for p in self.temporal.parameters())
        self.temporal.load_state_dict(state, assign=is_meta)


class VideoModel(Inflated):
    """A U-Net of diffusers that denoises clips; made by `inflate`."""

    static_text: Mapping[str, StaticText]
    """What the image model's cross-attentions need of the text, while a clip passes through."""

    def _attach(self) -> None:
        super()._attach()
        self.static_text = {}
        self._text_memory, removers = attach_static_text(self, self.spatial)
        self._removers += removers

    def __init__(
        self, spatial: nn.Module, family: str, options: LayerOptions, sites: list[Site]
    ) -> None:
        super().__init__(spatial, family, options, sites)
        if isinstance(options, VideoLdmOptions) and options.is_told:
            width = next(site.time_embedding for site in self.sites if site.time_embedding)
            self.temporal[MICRO] = MicroConditioning(
                width,
                frame_rate=options.sees_frame_rate,
                stage=options.sees_stage,
                noise_level=options.sees_noise_level,
            )

    @property
    def context_channels(self) -> int | None:
        """Channels of the given frames and their mask; None: it takes none."""
        options = self.options
        return options.context_channels if isinstance(options, VideoLdmOptions) else None

    def forward(
        self,
        sample: Float[Tensor, "B T C h w"],
        timestep: Int[Tensor, "*B"] | Float[Tensor, "*B"] | int | float,
        encoder_hidden_states: Float[Tensor, "B N D"] | None = None,
        class_labels: Int[Tensor, "B"] | Float[Tensor, "B K"] | None = None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Float[Tensor, "B T c h w"]:
        """Predict noise, velocity or clean latents, whichever the image model was trained for.

        Args:
            sample: noised latents, with what is concatenated to them.
            timestep: of the diffusion, one for all clips or one per clip.
            encoder_hidden_states: embedded text of each clip; of Stable Diffusion XL its last token
                is the text as a whole.
            class_labels: of each clip; of an upscaler the level of the noise augmentation, of
                Stable Video Diffusion the sinusoids of frame rate, motion and noise.
            conditions: what else the temporal layers are told.

        Raises:
            InputError: frames are given to layers that take none.
        """
        clips, num_frames = sample.shape[:2]
        text, added = split_text(self.spatial, encoder_hidden_states, *sample.shape[-2:])
        time = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(clips)
        frames = rearrange(sample, "b t c h w -> (b t) c h w")
        context = self._context(clips, num_frames, text, conditions)
        extra: dict[str, Any] = {}
        if class_labels is not None:
            extra["class_labels"] = per_frame(class_labels, num_frames)
        if added:
            extra["added_cond_kwargs"] = {k: per_frame(v, num_frames) for k, v in added.items()}
        with self.clip(context), self._reading(text):
            out: Tensor = self.spatial(
                frames.contiguous(memory_format=torch.channels_last),
                per_frame(time, num_frames),
                None if text is None else per_frame(text, num_frames),
                return_dict=False,
                **extra,
            )[0]
        return rearrange(out, "(b t) c h w -> b t c h w", t=num_frames)

    @contextmanager
    def _reading(self, text: Float[Tensor, "B N D"] | None) -> Iterator[None]:
        """Within the block, the image model reads this text; with gradients token by token."""
        if text is not None and not torch.is_grad_enabled():
            self.static_text = self._text_memory(text)
        try:
            yield
        finally:
            self.static_text = {}

    def _context(
        self, clips: int, num_frames: int, text: Tensor | None, conditions: ClipConditions | None
    ) -> ClipContext:
        """Return the clip's facts; of the given frames and the rest only what layers may see."""
        if conditions is None or not self.enabled:
            return ClipContext(num_frames=num_frames, text=text)
        given, micro = conditions.given, None
        if conditions.text is not None:
            text = conditions.text
        if given is not None and given.shape[2] != self.context_channels:
            raise InputError(
                f"context of {given.shape[2]} channels",
                why=f"these temporal layers take {self.context_channels or 'none'}",
                fix="use layers that were made with context_channels",
            )
        if MICRO in self.temporal:
            micro = per_frame(self.temporal[MICRO](clips, conditions), num_frames)
        return ClipContext(
            num_frames=num_frames,
            text=text,
            given=None if given is None else rearrange(given, "b t c h w -> (b t) c h w"),
            micro=micro,
            window=conditions.window,
            image_only=conditions.image_only,
        )


def inflate(spatial: nn.Module, family: str, **options: object) -> VideoModel:
    """Give an image model temporal layers.

    Fresh `video_ldm` layers add exactly nothing: this then is the image model, bit for bit.

    Args:
        spatial: a `UNet2DConditionModel` or a model of the same blocks; kept, not copied.
        family: name in `FAMILIES`.
        options: fields of the family's options (`VideoLdmOptions`, `UpscaleAVideoOptions`).

    Raises:
        InputError: no such family or option.
        ModelError: the image model has no place for such layers.
    """
    chosen = options_from(family, options)
    sites = [site for kind in FAMILIES[family].kinds for site in find_sites(spatial, kind)]
    if FAMILIES[family].kinds and not sites:
        raise ModelError(
            f"{type(spatial).__name__} cannot be inflated as {family}",
            why=f"it has none of the sites {', '.join(FAMILIES[family].kinds)}",
            fix="use a U-Net built of diffusers' 2-D blocks",
        )
    return VideoModel(spatial, family, chosen, sites)


def per_frame(value: Float[Tensor, "B *rest"] | Int[Tensor, "B *rest"], num_frames: int) -> Tensor:
    """Repeat what belongs to a clip for each of its frames, in the order of `(b t)`."""
    return value.repeat_interleave(num_frames, dim=0)


def check_state(given: dict[str, Tensor], wanted: dict[str, Tensor], *, what: str) -> None:
    """Compare names and shapes of weights with those that a network has.

    Raises:
        ModelError: a name is missing or unknown, or a shape differs; at most ten are listed.
    """
    missing = [f"lacks {key}" for key in wanted if key not in given]
    unknown = [f"has unknown {key}" for key in given if key not in wanted]
    shapes = [
        f"{key} is {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    wrong = missing + unknown + shapes
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise ModelError(
            f"{what} do not fit the network",
            why="; ".join(wrong[:10]) + more,
            fix="use weights that were made for this architecture",
        )


def _widths(sites: list[Site]) -> dict[str, list[int]]:
    """Return the widths beside channels that tell topologies apart."""
    text, time = (
        {getattr(site, name) for site in sites} for name in ("text_width", "time_embedding")
    )
    return {"text_width": sorted(text - {None}), "time_embedding": sorted(time - {None})}


def _misfit(theirs: dict[str, Any], ours: dict[str, Any]) -> ModelError:
    given = {tuple(site) for site in theirs.get("sites", [])}
    here = {tuple(site) for site in ours["sites"]}
    differences = [
        f"they were made for {name.replace('_', ' ')} {theirs[name]}, the model has {ours[name]}"
        for name in ("text_width", "time_embedding")
        if theirs.get(name, ours[name]) != ours[name]
    ]
    differences += [f"they expect {' '.join(map(str, s))}" for s in sorted(given - here)]
    differences += [f"the model has {' '.join(map(str, s))}" for s in sorted(here - given)]
    more = f"; and {len(differences) - 10} more" if len(differences) > 10 else ""
    return ModelError(
        "temporal weights do not fit this image model",
        why="; ".join(differences[:10] or ["widths of text or time embedding differ"]) + more,
        fix="use an image model of the topology that they were trained on",
    )
