"""Schedules: the reference's numbers, diffusers' numbers, and what must always hold."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from legato.diffusion.augmentation import augment
from legato.diffusion.prediction import ddim_step, eps_from, x0_from
from legato.diffusion.schedule import Schedule, started_part_way
from legato.errors import InputError, ModelError

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.0001, "beta_end": 0.02}


@pytest.fixture(scope="module")
def ddim(shared):
    return load_file(shared / "parity/upscale_a_video/ddim_30_steps.safetensors")


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=float(2e-4 * expected.abs().max()), rtol=0)


def test_timesteps_and_scales_are_the_references(ddim):
    assert Schedule().timesteps(30) == ddim["timesteps"].tolist()
    close(Schedule().alphas_cumprod, ddim["alphas_cumprod"])


@pytest.mark.parametrize("index", [0, 14, 29])
def test_a_step_is_the_references(ddim, index):
    schedule = Schedule()
    ends = [*schedule.timesteps(30), None]
    x0, eps = (
        estimate(
            ddim[f"v_{index}"],
            ddim[f"latents_{index}"],
            scales=schedule.scales(ends[index]),
            prediction_type="v_prediction",
        )
        for estimate in (x0_from, eps_from)
    )
    following = schedule.scales(ends[index + 1])
    close(x0, ddim[f"x0_{index}"])
    close(ddim_step(x0, eps, scales=following), ddim[f"prev_{index}"])
    close(ddim_step(0.9 * x0 + 0.1, eps, scales=following), ddim[f"prev_edited_{index}"])


def test_noise_augmentation_is_the_references(shared):
    stored = load_file(shared / "parity/upscale_a_video/noise_augmentation.safetensors")
    out = augment(stored["x"], stored["noise"], level=int(stored["level"]), schedule=Schedule())
    close(out, stored["out"])


@pytest.mark.parametrize(
    ("spacing", "offset"), [("leading", 0), ("leading", 1), ("trailing", 0), ("linspace", 0)]
)
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 30, 75, 999])
def test_timesteps_are_diffusers(spacing, offset, steps):
    theirs = DDIMScheduler(**BETAS, timestep_spacing=spacing, steps_offset=offset)
    theirs.set_timesteps(steps)
    ours = Schedule.from_config(dict(theirs.config))
    assert ours.timesteps(steps) == theirs.timesteps.tolist()


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear"])
def test_scales_are_diffusers(beta_schedule, zero_snr):
    theirs = DDIMScheduler(beta_schedule=beta_schedule, rescale_betas_zero_snr=zero_snr)
    ours = Schedule.from_config(dict(theirs.config))
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, atol=2e-6, rtol=1e-4)


def test_one_trailing_step_begins_at_pure_noise():
    assert Schedule(timestep_spacing="trailing").timesteps(1) == [999]


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, [999]), (2, [999, 249]), (4, [999, 249, 166, 82])]
)
def test_refining_goes_on_from_a_quarter(steps, expected):
    assert Schedule(timestep_spacing="refining").timesteps(steps) == expected


def test_refining_has_no_more_steps_than_there_are():
    schedule = Schedule(timestep_spacing="refining")
    assert schedule.timesteps(251) == [999, *range(249, -1, -1)]
    with pytest.raises(InputError, match="1 to 251"):
        schedule.timesteps(252)


@settings(max_examples=40)
@given(
    steps=st.integers(1, 251),
    spacing=st.sampled_from(["leading", "trailing", "linspace", "refining"]),
    offset=st.integers(0, 1),
)
def test_any_number_of_steps_falls_and_stays_in_the_table(steps, spacing, offset):
    timesteps = Schedule(timestep_spacing=spacing, steps_offset=offset).timesteps(steps)
    assert len(timesteps) == steps
    assert timesteps == sorted(timesteps, reverse=True)
    assert timesteps[0] <= 999
    assert timesteps[-1] >= 0


@pytest.mark.parametrize("steps", [0, 1001])
def test_other_numbers_of_steps_are_refused(steps):
    with pytest.raises(InputError, match="1 to 1000"):
        Schedule().timesteps(steps)


def test_the_end_is_timestep_zero_or_no_noise():
    assert Schedule().scales(None) == Schedule().scales(0)
    assert Schedule(set_alpha_to_one=True).scales(None) == (1.0, 0.0)


@pytest.mark.parametrize(("strength", "start"), [(1.0, 999), (0.5, 499), (0.25, 249), (0.0, 0)])
def test_strength_counts_with_a_single_step(strength, start):
    assert started_part_way([999], strength) == [start]


@pytest.mark.parametrize(("strength", "kept"), [(1.0, 8), (0.5, 4), (0.3, 2), (0.125, 1)])
def test_strength_keeps_the_last_steps(strength, kept):
    timesteps = Schedule().timesteps(8)
    assert started_part_way(timesteps, strength) == timesteps[-kept:]


def test_missing_keys_mean_what_they_mean_to_diffusers():
    theirs, ours = DDIMScheduler(), Schedule.from_config({})
    theirs.set_timesteps(7)
    assert ours.timesteps(7) == theirs.timesteps.tolist()
    assert ours.prediction_type == theirs.config.prediction_type
    assert ours.scales(None) == (1.0, 0.0)


@pytest.mark.parametrize(
    "config",
    [
        {"beta_schedule": "cosine"},
        {"prediction_type": "flow"},
        {"trained_betas": [0.1]},
        {"num_train_timesteps": 0},
        {"num_train_timesteps": "1000"},
        {"beta_end": None},
        {"set_alpha_to_one": 1},
    ],
)
def test_an_unknown_kind_is_refused(config):
    with pytest.raises(ModelError, match=next(iter(config))):
        Schedule.from_config(config)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
def test_predictions_give_back_signal_and_noise(kind):
    alpha, sigma = 0.8, 0.6
    x0, eps = torch.randn(2, 3, 4)
    prediction = {"v_prediction": alpha * eps - sigma * x0, "epsilon": eps, "sample": x0}[kind]
    z = alpha * x0 + sigma * eps
    for estimate, wanted in ((x0_from, x0), (eps_from, eps)):
        found = estimate(prediction, z, scales=(alpha, sigma), prediction_type=kind)
        torch.testing.assert_close(found, wanted)


KARRAS = {
    "use_karras_sigmas": True,
    "timestep_type": "continuous",
    "prediction_type": "v_prediction",
    "sigma_min": 0.002,
    "sigma_max": 700.0,
}


@pytest.mark.parametrize("count", [2, 7, 25])
def test_levels_of_karras_are_those_of_diffusers(count):
    theirs = EulerDiscreteScheduler.from_config({**KARRAS, "beta_schedule": "scaled_linear"})
    theirs.set_timesteps(count)
    ours = Schedule.from_config(KARRAS)
    path = ours.path(ours.timesteps(count))
    levels = torch.tensor([sigma / alpha for alpha, sigma in path])
    torch.testing.assert_close(levels, theirs.sigmas, rtol=1e-5, atol=0)
    assert [alpha**2 + sigma**2 for alpha, sigma in path] == pytest.approx([1.0] * len(path))
    assert not any(ours.is_blind(timestep) for timestep in ours.timesteps(count))


@pytest.mark.parametrize(
    "damage",
    [{"sigma_min": None}, {"sigma_min": 0}, {"sigma_max": "7"}, {"prediction_type": "epsilon"}],
)
def test_levels_that_make_no_schedule_are_refused(damage):
    with pytest.raises(ModelError, match=f"scheduler: .*{next(iter(damage))}="):
        Schedule.from_config(KARRAS | damage)


@pytest.mark.parametrize("count", [0, 1001])
def test_so_many_levels_are_refused(count):
    with pytest.raises(InputError, match="use 1 to 1000"):
        Schedule.from_config(KARRAS).timesteps(count)
