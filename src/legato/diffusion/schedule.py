"""How much signal and how much noise there is at each timestep, and which timesteps are visited.

z_t = alpha_t x_0 + sigma_t eps, alpha_t = sqrt(ab_t), sigma_t = sqrt(1 - ab_t), where ab_t is the
cumulative product of (1 - beta) over the training timesteps 0..t.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from legato.errors import InputError, ModelError

PredictionType = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["leading", "trailing", "linspace", "refining"]

REFINED = 4
"""Refining begins again at this part of the training timesteps."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A noise schedule over discrete training timesteps, with diffusers' names and meanings.

    Raises:
        ModelError: a field holds something that this program does not know.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "scaled_linear"
    """`linear`, or `scaled_linear`: linear in sqrt(beta)."""

    prediction_type: PredictionType = "v_prediction"
    timestep_spacing: Spacing = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False
    """Whether the step after the last ends at ab = 1; otherwise at ab of timestep 0."""

    rescale_betas_zero_snr: bool = False
    """Shift and scale sqrt(ab) so that the last timestep holds no signal (Lin et al. 2024,
    arXiv:2305.08891, algorithm 1)."""

    blind_start: bool = False
    """Whether the network was trained to see zeros, the mean, at the last training timestep: noisy
    latents hold nothing there, and a single step then gives one estimate whatever the noise."""

    alphas_cumprod: Float[Tensor, " steps"] = field(init=False, repr=False, compare=False)
    """ab, float32, one per training timestep."""

    def __post_init__(self) -> None:
        _check({name: getattr(self, name) for name in _CHOICES})
        object.__setattr__(self, "alphas_cumprod", self._alphas_cumprod())

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> "Schedule":
        """Build from the content of a diffusers `scheduler_config.json`.

        Keys that it lacks take diffusers' defaults, which differ from those of this class; keys of
        no meaning here are ignored.

        Raises:
            ModelError: the schedule is of a kind that this program does not know.
        """
        if config.get("trained_betas") is not None:
            raise ModelError(
                "scheduler: trained_betas",
                why="only linear and scaled_linear schedules are known",
                fix="use a model with one of these schedules",
            )
        if config.get("use_karras_sigmas") and config.get("timestep_type") == "continuous":
            return KarrasSchedule.from_levels(config)
        known = {name: config.get(name, default) for name, default in _DIFFUSERS_DEFAULTS.items()}
        _check_kinds(known)
        _check(known)
        return cls(**known)  # type: ignore[arg-type]

    def timesteps(self, num_inference_steps: int) -> list[int]:
        """Return the timesteps to visit, falling.

        leading: k (T // N) + offset; trailing: round(T - k T / N) - 1, which begins at T - 1;
        linspace: evenly from T - 1 to 0 (arXiv:2305.08891, table 2); refining: T - 1, then trailing
        ones from T / 4 on: for models that do nearly all in the first step, and whose result more
        noise would only blur (docs/decisions/0048).

        Raises:
            InputError: not 1 to T steps; with refining, T / 4 + 1.
        """
        total, count = self.num_train_timesteps, num_inference_steps
        most = total // REFINED + 1 if self.timestep_spacing == "refining" else total
        _require_count(count, most)
        if self.timestep_spacing == "leading":
            ratio = total // count
            # T steps with an offset would leave the table by one
            return [
                min((count - 1 - k) * ratio + self.steps_offset, total - 1) for k in range(count)
            ]
        if self.timestep_spacing == "trailing":
            return [round(total - k * total / count) - 1 for k in range(count)]
        if self.timestep_spacing == "refining":
            rest, start = count - 1, total // REFINED
            return [total - 1, *(round(start - k * start / rest) - 1 for k in range(rest))]
        points = torch.linspace(0, total - 1, count, dtype=torch.float64) if count > 1 else None
        return [0] if points is None else points.round().long().flip(0).tolist()

    def is_blind(self, timestep: int) -> bool:
        """Return whether the network is shown zeros instead of noisy latents at a timestep."""
        return self.blind_start and timestep == self.num_train_timesteps - 1

    def scales(self, timestep: int | None) -> tuple[float, float]:
        """Return (alpha, sigma) at a timestep; None is the end, after the last step."""
        if timestep is None:
            if self.set_alpha_to_one:
                return 1.0, 0.0
            timestep = 0
        ab = self.alphas_cumprod[timestep].double()
        return float(ab.sqrt()), float((1 - ab).sqrt())

    def scales_at(
        self, timesteps: Int[Tensor, "B"], device: torch.device
    ) -> tuple[Float[Tensor, "B 1 1 1 1"], Float[Tensor, "B 1 1 1 1"]]:
        """Return (alpha, sigma) of a timestep per clip, in float32."""
        ab = self.alphas_cumprod.to(device)[timesteps].view(-1, 1, 1, 1, 1)
        return ab.sqrt(), (1 - ab).sqrt()

    def path(self, timesteps: Sequence[int]) -> list[tuple[float, float]]:
        """Return (alpha, sigma) at each of these timesteps, and behind the last."""
        return [self.scales(timestep) for timestep in (*timesteps, None)]

    def _alphas_cumprod(self) -> Float[Tensor, " steps"]:
        count = self.num_train_timesteps
        if self.beta_schedule == "linear":
            betas = torch.linspace(self.beta_start, self.beta_end, count, dtype=torch.float64)
        else:
            roots = torch.linspace(
                self.beta_start**0.5, self.beta_end**0.5, count, dtype=torch.float64
            )
            betas = roots.square()
        products = torch.cumprod(1 - betas, dim=0)
        if self.rescale_betas_zero_snr:
            roots = products.sqrt()
            first, last = roots[0].clone(), roots[-1].clone()
            products = ((roots - last) * first / (first - last)).square()
        return products.float()


@dataclass(frozen=True, kw_only=True)
class KarrasSchedule(Schedule):
    """Noise levels s of Karras et al. 2022 (arXiv:2206.00364, eq. 5), latents scaled to variance 1.

    x_0 + s eps becomes alpha x_0 + sigma eps with alpha = 1 / sqrt(1 + s^2) and sigma = s alpha:
    the paper's preconditioning by v (Stable Video Diffusion's) and its Euler steps are then
    v-prediction and DDIM. A timestep says how far s^(1/rho) has gone from the least level to the
    greatest, in billionths.
    """

    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0

    @classmethod
    def from_levels(cls, config: Mapping[str, Any]) -> "KarrasSchedule":
        """Build from the configuration of diffusers' `EulerDiscreteScheduler`.

        Raises:
            ModelError: it has no levels, or predicts something else than v.
        """
        low, high = config.get("sigma_min"), config.get("sigma_max")
        kind = config.get("prediction_type")
        if not (
            isinstance(low, int | float)
            and isinstance(high, int | float)
            and 0 < low < high
            and kind == "v_prediction"
        ):
            raise ModelError(
                f"scheduler: sigma_min={low!r}, sigma_max={high!r}, prediction_type={kind!r}",
                why="Karras's levels rise from one above 0 to another, and the network predicts v",
                fix="fetch the model again, or point to an undamaged copy",
            )
        return cls(sigma_min=float(low), sigma_max=float(high))

    def timesteps(self, num_inference_steps: int) -> list[int]:
        """Return the timesteps to visit: evenly from the greatest level to the least.

        Raises:
            InputError: not 1 to 1000 steps.
        """
        count = num_inference_steps
        _require_count(count, self.num_train_timesteps)
        return [round(_BILLION * (1 - k / max(count - 1, 1))) for k in range(count)]

    def noise_level(self, timestep: int) -> float:
        """Return s."""
        low, high = (level ** (1 / self.rho) for level in (self.sigma_min, self.sigma_max))
        return float((low + timestep / _BILLION * (high - low)) ** self.rho)

    def scales(self, timestep: int | None) -> tuple[float, float]:
        """Return (alpha, sigma) at a timestep; None is the end, without noise."""
        level = 0.0 if timestep is None else self.noise_level(timestep)
        alpha = (1 + level**2) ** -0.5
        return alpha, level * alpha


_BILLION = 10**9
_DIFFUSERS_DEFAULTS: dict[str, object] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "rescale_betas_zero_snr": False,
    "blind_start": False,
}
_CHOICES = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "timestep_spacing": ("leading", "trailing", "linspace", "refining"),
}


def _require_count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise InputError(
            f"num_inference_steps={count}",
            why=f"the model's schedule has {most} timesteps",
            fix=f"use 1 to {most}",
        )


def _check_kinds(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        kind = type(_DIFFUSERS_DEFAULTS[name])
        is_kind = type(value) in ((float, int) if kind is float else (kind,))
        if not is_kind or (name == "num_train_timesteps" and value < 1):
            raise ModelError(
                f"scheduler: {name}={value!r}",
                why="it makes no schedule",
                fix="fetch the model again, or point to an undamaged copy",
            )


def _check(fields: Mapping[str, object]) -> None:
    for name, choices in _CHOICES.items():
        if fields[name] not in choices:
            raise ModelError(
                f"scheduler: {name}={fields[name]!r}",
                why=f"known are {', '.join(choices)}",
                fix="use a model with one of these schedules",
            )


def started_part_way(
    timesteps: list[int], strength: float, *, num_train_timesteps: int = 1000
) -> list[int]:
    """Return the last steps of a schedule: the share `strength` of them, at least one.

    As diffusers' image-to-image pipelines: int(N strength) steps are kept. Differs: none begins
    above that share of the training timesteps, so that it counts with very few steps too.
    """
    kept = min(max(int(len(timesteps) * strength), 1), len(timesteps))
    highest = num_train_timesteps - 1
    if strength < 1:
        highest = max(round(num_train_timesteps * strength) - 1, 0)
    return [min(timestep, highest) for timestep in timesteps[len(timesteps) - kept :]]
