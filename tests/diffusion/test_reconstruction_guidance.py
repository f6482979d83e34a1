"""Reconstruction guidance: its gradient is the equation's, and known frames are arrived at."""

import pytest
import torch
from tiny_generator import tiny_generator_unet

from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.prediction import prediction_of, x0_from
from legato.diffusion.reconstruction_guidance import ReconstructionGuided
from legato.diffusion.schedule import Schedule
from legato.diffusion.spans import Span

MASK = torch.tensor([False, False, True])
SHAPE = (1, 3, 4, 4, 4)
MIXING = torch.tensor([[0.5, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.3, 0.2]])


def draw(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def linear(kind, schedule):
    """A network whose estimate of the clean frames is a mixture of the noisy ones."""

    def network(sample, timestep, text, labels, *, conditions=None):
        x0 = torch.einsum("st,btchw->bschw", MIXING.to(sample), sample)
        alpha, sigma = schedule.scales(int(timestep[0]))
        scales = (torch.tensor(alpha), torch.tensor(sigma))
        return prediction_of(x0, (sample - alpha * x0) / sigma, scales=scales, prediction_type=kind)

    return network


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_the_estimate_is_that_of_the_equation(kind, weight):
    schedule, z, known, at = Schedule(prediction_type=kind), draw(0), draw(1), 400
    guided = ReconstructionGuided(
        network=linear(kind, schedule), schedule=schedule, known=known, mask=MASK, weight=weight
    )
    prediction = guided(z, torch.tensor([at]), torch.zeros(1, 1, 1), None)
    scales = schedule.scales(at)
    x0 = x0_from(prediction, z, scales=scales, prediction_type=kind)
    plain = torch.einsum("st,btchw->bschw", MIXING, z)
    # of |x - sum_t m_t z_t|^2 at the known frame, by each z_t
    slope = 2 * MIXING[2][None, :, None, None, None] * (plain - known)[:, 2:]
    wanted = plain - weight * scales[0] / 2 * slope
    torch.testing.assert_close(x0[:, :2], wanted[:, :2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(x0[:, 2], known[:, 2], atol=1e-4, rtol=1e-4)


def test_a_real_network_arrives_at_known_frames_and_its_neighbours_are_led():
    unet, schedule, known = tiny_generator_unet(), Schedule(set_alpha_to_one=True), draw(2)
    text = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(3))

    def made(weight):
        guided = ReconstructionGuided(
            network=unet.requires_grad_(False),
            schedule=schedule,
            known=known,
            mask=MASK,
            weight=weight,
        )
        denoiser = Denoiser(
            network=guided,
            conditions=Conditions(prompt=text, negative_prompt=-text, guidance_scale=2.0),
            windows=[Span.whole(3)],
        )
        times = schedule.timesteps(3)
        return denoise(denoiser, draw(4), schedule=schedule, timesteps=times)

    free, led = made(0.0), made(50.0)
    for clip in (free, led):
        torch.testing.assert_close(clip[:, 2], known[:, 2], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(free[:, :2], led[:, :2], atol=1e-3)
