"""A network that is shown nothing at the first timestep gives one estimate whatever the noise."""

import torch

from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.schedule import Schedule
from legato.diffusion.spans import Span

SCHEDULE = Schedule(timestep_spacing="trailing", set_alpha_to_one=True, blind_start=True)
LOW_RES = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(1, 2, 3, 4, 4)


class Recorder:
    """Predict v so that x0 is the first four channels of what it is shown, and remember it."""

    def __init__(self):
        self.seen = []

    def __call__(self, sample, timestep, encoder_hidden_states, class_labels):
        self.seen.append(sample[:, :, :4].clone())
        return -sample[:, :, [4, 5, 6, 4]]


def run(steps, seed):
    network = Recorder()
    denoiser = Denoiser(
        network=network,
        conditions=Conditions(prompt=torch.zeros(1, 1, 8), low_res=LOW_RES),
        windows=[Span(0, 2, (1.0, 1.0))],
    )
    noise = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    timesteps = SCHEDULE.timesteps(steps)
    return denoise(denoiser, noise, schedule=SCHEDULE, timesteps=timesteps), network.seen


def test_the_network_sees_zeros_first_and_noise_afterwards():
    _, seen = run(2, seed=0)
    assert torch.equal(seen[0], torch.zeros_like(seen[0]))
    assert seen[1].std() > 0.5


def test_one_step_gives_the_same_latents_whatever_the_seed():
    one, other = run(1, seed=0)[0], run(1, seed=1)[0]
    expected = LOW_RES[:, :, [0, 1, 2, 0]]
    assert torch.equal(one, other)
    torch.testing.assert_close(one, expected, atol=1e-3, rtol=0)


def test_the_seed_still_matters_with_more_steps():
    assert not torch.equal(run(2, seed=0)[1][1], run(2, seed=1)[1][1])
