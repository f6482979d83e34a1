"""Solvers agree with diffusers' and come closer to the exact solution in fewer steps."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.schedule import Schedule
from legato.diffusion.solver import Move, Solver, is_first_order
from legato.diffusion.spans import Span

SCHEDULE = Schedule(set_alpha_to_one=True)
CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": SCHEDULE.beta_start,
    "beta_end": SCHEDULE.beta_end,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "solver_order": 2,
    "final_sigmas_type": "zero",
}
THEIRS = {
    "dpm++": DPMSolverMultistepScheduler(**CONFIG),
    "unipc": UniPCMultistepScheduler(**CONFIG),
}


def v_of(z, timestep):
    """The best v for clean latents of mean 0.3 and deviation 0.5, bent a little."""
    alpha, sigma = SCHEDULE.scales(int(timestep))
    x0 = 0.3 + (z - 0.3 * alpha) * 0.25 * alpha / (0.25 * alpha**2 + sigma**2)
    x0 = x0 + 0.1 * torch.sin(3 * x0)
    return (alpha * z - x0) / sigma


def solve(name, timesteps, noise):
    def network(sample, timestep, text, labels):
        return v_of(sample, timestep[0])

    denoiser = Denoiser(
        network=network,
        conditions=Conditions(prompt=torch.zeros(1, 1, 1), negative_prompt=None),
        windows=[Span.whole(noise.shape[1])],
    )
    return denoise(denoiser, noise, schedule=SCHEDULE, timesteps=timesteps, solver=name)


@pytest.fixture
def noise():
    return torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_steps", [2, 3, 8, 20])
@pytest.mark.parametrize("name", THEIRS)
def test_a_solver_is_diffusers(name, num_steps, noise):
    scheduler = THEIRS[name]
    scheduler.set_timesteps(num_steps)
    z = noise
    for timestep in scheduler.timesteps:
        z = scheduler.step(v_of(z, timestep), timestep, z).prev_sample
    torch.testing.assert_close(
        solve(name, scheduler.timesteps.tolist(), noise), z, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", THEIRS)
def test_second_order_is_closer_to_the_solution(name, noise):
    exact = solve("ddim", SCHEDULE.timesteps(1000), noise)
    few = SCHEDULE.timesteps(25)
    errors = {kind: (solve(kind, few, noise) - exact).abs().mean() for kind in ("ddim", name)}
    assert errors[name] < 0.5 * errors["ddim"]


@pytest.mark.parametrize("name", ["ddim", *THEIRS])
def test_one_step_is_the_estimate_itself(name, noise):
    timestep = 999
    alpha, sigma = SCHEDULE.scales(timestep)
    estimate = alpha * noise - sigma * v_of(noise, timestep)
    torch.testing.assert_close(solve(name, [timestep], noise), estimate)


@pytest.mark.parametrize("name", ["ddim", *THEIRS])
def test_a_timestep_that_comes_twice_is_as_if_it_came_once(name, noise):
    once = [999, 749, 499, 249]
    torch.testing.assert_close(solve(name, [999, *once], noise), solve(name, once, noise))
    assert solve(name, [999, 749, 749, 499], noise).isfinite().all()


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4])
@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("ends", [{"set_alpha_to_one": True}, {"set_alpha_to_one": False}], ids=str)
@pytest.mark.parametrize("begins", [{}, {"rescale_betas_zero_snr": True}], ids=str)
@pytest.mark.parametrize("name", ["ddim", *THEIRS])
def test_what_is_called_first_order_is_ddim_to_the_bit(name, begins, ends, doubled, num_steps):
    schedule = Schedule(timestep_spacing="trailing", steps_offset=0, **begins, **ends)
    timesteps = schedule.timesteps(num_steps)
    path = schedule.path([*timesteps[:1], *timesteps] if doubled else timesteps)
    num_steps += doubled
    draw = torch.Generator().manual_seed(num_steps)
    estimates = torch.randn(num_steps, 3, 8, generator=draw)
    found = []
    for kind in (name, "ddim"):
        advance, z = Solver(kind), torch.ones(8)
        for index, (x0, eps, noise) in enumerate(estimates):
            last = index == num_steps - 1
            move = Move(index=index, scales=path[index], following=path[index + 1], is_last=last)
            z = advance(x0, eps if path[index + 1][1] else 0 * eps, z + noise, move)
            found.append(z)
    ours, ddims = found[:num_steps], found[num_steps:]
    assert is_first_order(name, path) == torch.equal(torch.stack(ours), torch.stack(ddims))
