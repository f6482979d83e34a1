"""DDIM inversion leads back to where it came from."""

import pytest
import torch
from draws import draw

from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.inversion import invert
from legato.diffusion.prediction import prediction_of
from legato.diffusion.schedule import Schedule
from legato.diffusion.spans import Span

SPREAD, FRAMES = 0.5, 2


class Gaussian:
    """The exact network of data N(0, SPREAD^2)."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, sample, timestep, text, labels, *, conditions=None):
        alpha, sigma = self.schedule.scales(int(timestep[0]))
        x0 = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * sample
        eps = (sample - alpha * x0) / sigma
        kind = self.schedule.prediction_type
        return prediction_of(
            x0, eps, scales=(torch.tensor(alpha), torch.tensor(sigma)), prediction_type=kind
        )


def error_of_a_round_trip(kind, steps):
    schedule = Schedule(prediction_type=kind, set_alpha_to_one=True, steps_offset=0)
    denoiser = Denoiser(
        network=Gaussian(schedule),
        conditions=Conditions(prompt=draw(1, 2, 3)),
        windows=[Span.whole(FRAMES)],
    )
    clean, timesteps = SPREAD * draw(1, FRAMES, 4, 6, 6), schedule.timesteps(steps)
    noise = invert(denoiser, clean, schedule=schedule, timesteps=timesteps)
    back = denoise(denoiser, noise, schedule=schedule, timesteps=timesteps)
    return noise, float((back - clean).norm() / clean.norm())


def test_the_error_of_the_way_back_falls_with_the_size_of_the_steps():
    errors = [error_of_a_round_trip("epsilon", steps)[1] for steps in (10, 20, 40)]
    assert errors[0] > 1.6 * errors[1] > 2.5 * errors[2]


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_what_the_network_predicts_does_not_matter(kind):
    noise, wanted = (error_of_a_round_trip(each, 5)[0] for each in (kind, "epsilon"))
    assert torch.allclose(noise, wanted, atol=1e-4)


def test_inverted_data_are_standard_normal():
    noise, _ = error_of_a_round_trip("epsilon", 50)
    assert abs(float(noise.std()) - 1) < 0.1
