"""The clean estimate is smoothed at the plan's steps, and at no other."""

import pytest
import torch

from legato.diffusion.background_smoother import BackgroundSmoother
from legato.diffusion.denoiser import Step
from legato.diffusion.step_plan import StepPlan

STEPS = 10


def first_everywhere(x):
    return x[:, :1].expand_as(x)


@pytest.fixture
def smoother():
    return BackgroundSmoother(
        decode=lambda z: z[:, :, :3],
        encode=lambda x: torch.cat((x, x[:, :, :1]), dim=2),
        smooth=first_everywhere,
        plan=StepPlan(smoothing=(0.8, 0.9)),
        num_steps=STEPS,
    )


@pytest.mark.parametrize("executed", [10, 5])
def test_it_acts_at_the_places_of_the_plan(smoother, executed):
    x0 = torch.randn(1, 3, 4, 2, 2)
    acted = [
        index
        for index in range(executed)
        if not torch.equal(smoother(Step(index=index, num_steps=executed, timestep=5), x0), x0)
    ]
    assert acted == [executed - STEPS + 8]


def test_frame_0_stays_and_the_others_take_it_over(smoother):
    x0 = torch.randn(1, 3, 4, 2, 2)
    smooth = smoother(Step(index=8, num_steps=STEPS, timestep=5), x0)
    assert torch.equal(smooth[:, 0], x0[:, 0])
    assert torch.equal(smooth[:, 2, :3], x0[:, 0, :3])


def test_a_single_frame_is_left_alone(smoother):
    x0 = torch.randn(1, 1, 4, 2, 2)
    assert torch.equal(smoother(Step(index=8, num_steps=STEPS, timestep=5), x0), x0)
