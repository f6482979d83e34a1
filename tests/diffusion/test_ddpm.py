"""DDPM's step is diffusers' and ends in the estimate itself."""

import pytest
import torch
from diffusers import DDPMScheduler

from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.schedule import Schedule
from legato.diffusion.solver import Ddpm, Move
from legato.diffusion.spans import Span

FRAMES = 3


def network(sample, timestep, text, labels):
    """Epsilon of clean latents of mean 0.3 and no spread, bent a little."""
    return torch.sin(sample) * 0.9 + 0.01 * (timestep[0] % 7)


def noise(index):
    generator = torch.Generator().manual_seed(index)
    return torch.randn(1, FRAMES, 4, 6, 6, generator=generator)


def solve(schedule, timesteps, start):
    denoiser = Denoiser(
        network=network,
        conditions=Conditions(prompt=torch.zeros(1, 1, 1)),
        windows=[Span.whole(FRAMES)],
    )
    rule = Ddpm(noise)
    return denoise(denoiser, start, schedule=schedule, timesteps=timesteps, solver=rule)


@pytest.mark.parametrize("num_steps", [1, 4, 20])
@pytest.mark.parametrize("skipped", [0, 1])
def test_a_run_is_diffusers_without_clipping(num_steps, skipped, monkeypatch):
    config = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "steps_offset": 1,
    }
    theirs = DDPMScheduler(**config, clip_sample=False)
    theirs.set_timesteps(num_steps)
    timesteps = theirs.timesteps.tolist()[min(skipped, num_steps - 1) :]
    drawn = iter(range(num_steps))
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: noise(next(drawn))
    )
    start = z = noise(100)
    for timestep in timesteps:
        prediction = network(z, torch.tensor([timestep]), None, None)
        z = theirs.step(prediction, timestep, z).prev_sample
    ours = solve(Schedule(**config), timesteps, start)
    torch.testing.assert_close(ours, z, rtol=1e-4, atol=1e-4)


def test_an_edit_of_the_estimate_moves_the_mean_as_the_posterior_says():
    """Mean of q(x_s | x_t, x_0) (arXiv:2006.11239, eq. 7), from Gaussian arithmetic."""
    (a, s), (a_next, s_next) = (0.6, 0.8), (0.8, 0.6)
    move = Move(index=0, scales=(a, s), following=(a_next, s_next), is_last=False)
    z, x0 = noise(1), noise(2)
    ratio = a / a_next
    spread = s**2 - ratio**2 * s_next**2  # of x_t given x_s
    precision = 1 / s_next**2 + ratio**2 / spread
    mean = (a_next * x0 / s_next**2 + ratio * z / spread) / precision
    silent = Ddpm(lambda index: torch.zeros(1, FRAMES, 4, 6, 6))
    torch.testing.assert_close(silent(x0, z, z, move), mean)
    once = Ddpm(lambda index: torch.ones(1, FRAMES, 4, 6, 6))(x0, z, z, move) - mean
    torch.testing.assert_close(once, torch.full_like(once, precision**-0.5))


def test_the_last_step_gives_the_estimate_itself():
    move = Move(index=3, scales=(0.9, 0.43), following=(0.999, 0.04), is_last=True)
    x0 = noise(1)
    assert Ddpm(noise)(x0, x0, noise(2), move) is x0
