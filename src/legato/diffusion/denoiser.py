"""From noise to latents: the one denoising loop of every job.

Per step: predict over windows (time) and tiles (space), merge the predictions with the plan's
weights *before* guidance, convert to (x_0, eps), let edits change x_0, step. All tiles and windows
share every step: there is one latent state.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from legato.diffusion.guidance import Branch, guide, links
from legato.diffusion.prediction import eps_from, x0_from
from legato.diffusion.schedule import Schedule
from legato.diffusion.solver import Move, Solver, SolverName, StepRule
from legato.diffusion.spans import Span, Tile, merge_tiles, merge_windows
from legato.models.micro_conditioning import ClipConditions


@runtime_checkable
class Network(Protocol):
    """A video network, as `legato.models.inflate.VideoModel` is one."""

    def __call__(
        self,
        sample: Float[Tensor, "B T C h w"],
        timestep: Int[Tensor, " B"],
        encoder_hidden_states: Float[Tensor, "B N D"],
        class_labels: Int[Tensor, " B"] | None,
        *,
        conditions: ClipConditions | None = None,
    ) -> Float[Tensor, "B T c h w"]:
        """Return the prediction that the schedule's `prediction_type` names."""
        ...


@runtime_checkable
class PlacedNetwork(Protocol):
    """A network that is told something else at every place of a clip."""

    def at(self, window: Span, tile: Tile) -> Network:
        """Return the network of one window and tile."""
        ...


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the network sees besides the noisy latents."""

    prompt: Float[Tensor, "B N D"]
    """Embedded prompt."""

    negative_prompt: Float[Tensor, "B N D"] | None = None
    """Embedded negative prompt; needed where the guidance scale is above 1."""

    temporal_prompt: Float[Tensor, "B N E"] | None = None
    """What temporal layers read instead, where another text encoder than theirs embedded it."""

    temporal_negative_prompt: Float[Tensor, "B N E"] | None = None
    """Likewise."""

    low_res: Float[Tensor, "B T C h w"] | None = None
    """Clip stacked under the latents' channels, e.g. the noised low-resolution frames."""

    noise_level: int | None = None
    """Class label: how much noise `low_res` carries."""

    guidance_scale: float = 1.0
    """Above 1 the negative prompt is predicted too."""

    clip: ClipConditions | None = None
    """What the temporal layers are told; its given frames are seen by one branch only."""

    context_guidance: float = 1.0
    """How strongly given frames are followed: 1 plainly, 0 not at all."""

    def text(self, branch: Branch) -> Float[Tensor, "B N D"]:
        """Return the embedded text that a branch sees."""
        text = self.negative_prompt if branch == "negative_prompt" else self.prompt
        assert text is not None
        return text

    def temporal_text(self, branch: Branch) -> Float[Tensor, "B N E"] | None:
        """Return what the temporal layers read in a branch where that is another text."""
        is_negative = branch == "negative_prompt"
        return self.temporal_negative_prompt if is_negative else self.temporal_prompt

    @cached_property
    def links(self) -> Sequence[tuple[float, Branch]]:
        """The branches to predict; see `legato.diffusion.guidance`.

        Between equal texts no difference could be scaled, so only one of them is predicted.
        """
        has_context = self.clip is not None and self.clip.given is not None
        return links(
            guidance_scale=1.0 if self._texts_are_equal else self.guidance_scale,
            context_guidance=self.context_guidance if has_context else None,
        )

    @property
    def _texts_are_equal(self) -> bool:
        return _equal(self.prompt, self.negative_prompt) and _equal(
            self.temporal_prompt, self.temporal_negative_prompt
        )


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """A network, its conditions, and the plan by which it covers a clip.

    Calling it gives the merged predictions of one timestep, those of all branches stacked on the
    batch axis.
    """

    network: Network | PlacedNetwork
    conditions: Conditions
    windows: Sequence[Span]
    """Plan over frames."""

    tiles: Sequence[Tile] = ()
    """Plan over latent cells; empty computes whole frames."""

    dtype: torch.dtype = torch.float32
    """Precision of the network; everything else is float32."""

    batches_guidance: bool = False
    """Whether one call of the network sees both texts, instead of two calls one each: the same
    predictions, faster where the device is not busy yet, with twice the activations."""

    kept: dict[tuple[int, int, str], Tensor] = field(default_factory=dict)
    """Predictions of the first step that are already known, by (start, stop, branch) of their
    window; the loop takes them out, and adds those that it computes. They depend on noise and input
    only, so a later clip that holds the same window may have them."""

    keep_after: int = 0
    """Only windows that reach past this frame are left in `kept`."""

    on_window: Callable[[], None] | None = None
    """Called for each branch of each window of each step."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        """What the network must predict, in the order of the guidance."""
        return tuple(branch for _, branch in self.conditions.links)

    def __call__(
        self, z: Float[Tensor, "B T C h w"], timestep: int, *, is_first: bool = False
    ) -> Float[Tensor, "RB T c h w"]:
        """Return the predictions for a whole clip, float32: all of one branch before the next.

        Args:
            z: noisy latents.
            timestep: of the schedule's training.
            is_first: whether this is the loop's first step, whose predictions `kept` may hold.
        """

        def predict(window: Span) -> Tensor:
            keys = [(window.start, window.stop, branch) for branch in self.branches]
            known: dict[tuple[int, int, str], Tensor] = {
                key: self.kept.pop(key) for key in keys if is_first and key in self.kept
            }
            self._advance(len(known))
            missing = [key for key in keys if key not in known]
            together = len(keys) if self.batches_guidance else 1
            for group in (missing[k : k + together] for k in range(0, len(missing), together)):
                branches = tuple(branch for _, _, branch in group)
                found = self._predict_window(z, timestep, window, branches)
                known.update(zip(group, found.chunk(len(group)), strict=True))
                self._advance(len(group))
            if is_first and window.stop > self.keep_after:
                self.kept.update({key: _compact(value, self.dtype) for key, value in known.items()})
            return torch.cat([known[key].to(z.device) for key in keys])

        return merge_windows(self.windows, predict, num_frames=z.shape[1])

    def _advance(self, count: int) -> None:
        if self.on_window is not None:
            for _ in range(count):
                self.on_window()

    def _predict_window(
        self,
        z: Float[Tensor, "B T C h w"],
        timestep: int,
        window: Span,
        branches: Sequence[Branch],
    ) -> Float[Tensor, "RB t c h w"]:
        sample = z[:, window.start : window.stop].to(self.dtype)
        if self.conditions.low_res is not None:
            low_res = self.conditions.low_res[:, window.start : window.stop].to(self.dtype)
            sample = torch.cat((sample, low_res), dim=2)
        whole = _whole(sample)
        return merge_tiles(
            self.tiles or (whole,),
            lambda tile: self._predict_tile(sample, timestep, (window, tile), branches),
            size=(whole.rows.stop, whole.cols.stop),
        )

    def _predict_tile(
        self,
        sample: Float[Tensor, "B t C h w"],
        timestep: int,
        place: tuple[Span, Tile],
        branches: Sequence[Branch],
    ) -> Float[Tensor, "RB t c rows cols"]:
        rows, cols = _cells(place[1])
        piece = sample[..., rows, cols]
        batch, count = sample.shape[0], len(branches)
        texts = [self.conditions.text(branch).to(self.dtype) for branch in branches]
        level = self.conditions.noise_level

        def labels(value: int) -> Tensor:
            return torch.full((count * batch,), value, device=sample.device)

        inputs = (
            piece.repeat(count, 1, 1, 1, 1),
            labels(timestep),
            torch.cat([text.expand(batch, -1, -1) for text in texts]),
            None if level is None else labels(level),
        )
        network = self.network
        if isinstance(network, PlacedNetwork):
            network = network.at(*place)
        if self.conditions.clip is None:
            return network(*inputs)
        told = _told(self.conditions.clip, place, branches, batch=batch, dtype=self.dtype)
        others = [self.conditions.temporal_text(branch) for branch in branches]
        read = [text.to(self.dtype).expand(batch, -1, -1) for text in others if text is not None]
        if read:
            told = replace(told, text=torch.cat(read))
        return network(*inputs, conditions=told)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where the loop is."""

    index: int
    """Counted from 0."""

    num_steps: int
    timestep: int


Edit = Callable[[Step, Tensor], Tensor]
"""(step, x_0 "B T C h w" float32) -> changed x_0."""

Pin = Callable[[Step, Tensor, Tensor], Tensor]
"""(step, edited x_0, latents after the step) -> latents after the step, some frames replaced."""


def num_first_steps(share: float, num_steps: int) -> int:
    """Return how many steps a share of them is, 0..1, rounded up."""
    return math.ceil(round(share * num_steps, 6))  # 0.7 * 10 is a little more than 7


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    latents: Float[Tensor, "B T C h w"],
    *,
    schedule: Schedule,
    timesteps: Sequence[int],
    solver: SolverName | StepRule = "ddim",
    hooks: tuple[Sequence[Edit], Sequence[Pin]] = ((), ()),
) -> Float[Tensor, "B T C h w"]:
    """Return clean latents, float32.

    Args:
        denoiser: network, conditions and plan.
        latents: at the first timestep: noise, or a noised guess.
        schedule: scales of signal and noise, and what the network predicts.
        timesteps: falling; `schedule.timesteps(n)` or the tail of it.
        solver: how estimates become a step; a rule such as `Ddpm`, or the name of one.
        hooks: edits, which change x_0 in turn (eps stays the network's own), and pins, which see
            and may replace the latents after each step.
    """
    z = latents.float()
    edits, pins = hooks
    advance: StepRule = Solver(solver) if isinstance(solver, str) else solver
    ends = [*timesteps, None]
    for index, (timestep, following) in enumerate(pairwise(ends)):
        assert timestep is not None
        step = Step(index=index, num_steps=len(timesteps), timestep=timestep)
        end = schedule.scales(following)
        x0, eps = _estimate(denoiser, z, step, schedule=schedule, wants_eps=end[1] > 0)
        for edit in edits:
            x0 = edit(step, x0)
        scales, is_last = schedule.scales(timestep), following is None
        move = Move(index=index, scales=scales, following=end, is_last=is_last)
        z = advance(x0, eps, z, move)
        for pin in pins:
            z = pin(step, x0, z)
    return z


def _estimate(
    denoiser: Denoiser,
    z: Float[Tensor, "B T C h w"],
    step: Step,
    *,
    schedule: Schedule,
    wants_eps: bool,
) -> tuple[Float[Tensor, "B T C h w"], Float[Tensor, "B T C h w"]]:
    """Return (x_0, eps) as the guided network estimates them; zeros for an eps not wanted."""
    is_blind = schedule.is_blind(step.timestep)
    seen = _zeros_like(z) if is_blind else z

    chain = denoiser.conditions.links
    predictions = denoiser(seen, step.timestep, is_first=step.index == 0).chunk(len(chain))
    prediction = guide(predictions, [scale for scale, _ in chain])
    scales = alpha, sigma = schedule.scales(step.timestep)
    kind = schedule.prediction_type
    x0 = x0_from(prediction, seen, scales=scales, prediction_type=kind)
    if not wants_eps:
        eps = _zeros_like(x0)
    elif is_blind:  # the noise that the network was not shown is what the next step starts from
        eps = (z - alpha * x0) / sigma
    else:
        eps = eps_from(prediction, seen, scales=scales, prediction_type=kind)
    return x0, eps


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


def _cells(tile: Tile) -> tuple[slice, slice]:
    return slice(tile.rows.start, tile.rows.stop), slice(tile.cols.start, tile.cols.stop)


def _compact(prediction: Tensor, dtype: torch.dtype) -> Tensor:
    """Return it in the network's precision where that loses nothing, as of a single tile."""
    small = prediction.to(dtype)
    return small if torch.equal(small.to(prediction.dtype), prediction) else prediction


def _told(
    clip: ClipConditions,
    place: tuple[Span, Tile],
    branches: Sequence[Branch],
    *,
    batch: int,
    dtype: torch.dtype,
) -> ClipConditions:
    """Return what the temporal layers are told of a window and tile, once per branch.

    Only the context branch is given frames; zeros are the same to the layers as none.
    """
    window, (rows, cols) = place[0], _cells(place[1])
    given: Tensor | None = None
    if clip.given is not None and "context" in branches:
        piece = clip.given[:, window.start : window.stop, :, rows, cols].to(dtype)
        nothing = torch.zeros_like(piece)
        given = torch.cat([piece if branch == "context" else nothing for branch in branches])

    def each(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.reshape(-1).expand(batch).repeat(len(branches))

    return replace(
        clip,
        given=given,
        frame_rate=each(clip.frame_rate),
        stage=each(clip.stage),
        noise_level=each(clip.noise_level),
    )


def _zeros_like(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return zeros of a shape that take no memory; they cannot be written to."""
    return x.new_zeros(()).expand_as(x)


def _whole(sample: Float[Tensor, "B t C h w"]) -> Tile:
    rows, cols = sample.shape[-2:]
    return Tile(Span.whole(rows), Span.whole(cols))
