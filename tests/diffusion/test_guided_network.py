"""The whole loop around an image model: FRESCO's parts and DDPM act in `denoise`."""

from dataclasses import replace

import pytest
import torch
from clip_correspondence import random_flow, random_tokens
from draws import draw
from tiny_unets import COLS, FAMILIES, ROWS

from legato.diffusion.denoiser import Conditions, Denoiser, denoise
from legato.diffusion.fresco import RELEASED, ClipCorrespondence, Fresco
from legato.diffusion.guided_network import GuidedNetwork
from legato.diffusion.schedule import Schedule, started_part_way
from legato.diffusion.solver import Ddpm
from legato.diffusion.spans import Span
from legato.diffusion.step_plan import StepPlan
from legato.models.inflate import inflate

FRAMES, STEPS = 3, 3
SCHEDULE = Schedule(beta_start=0.00085, beta_end=0.012, prediction_type="epsilon")
TIMESTEPS = started_part_way(SCHEDULE.timesteps(STEPS), 0.75)
NOTHING = StepPlan(spatial=0.0, cross=0.0, temporal=0.0, features=0.0, smoothing=(0.0, 0.0))


@pytest.fixture(scope="module")
def model():
    """An image model: no temporal layer acts."""
    return inflate(FAMILIES["sd1"].build(), "video_ldm")


def solve(network):
    conditions = Conditions(
        prompt=draw(1, 5, 16), negative_prompt=draw(1, 5, 16, seed=1), guidance_scale=3.0
    )
    whole = [Span.whole(FRAMES)]
    return denoise(
        Denoiser(network=network, conditions=conditions, windows=whole),
        draw(1, FRAMES, 4, ROWS, COLS),
        schedule=SCHEDULE,
        timesteps=TIMESTEPS,
        solver=Ddpm(lambda index: draw(1, FRAMES, 4, ROWS, COLS, seed=10 + index)),
    )


@pytest.fixture(scope="module")
def plain(model):
    return solve(model)


def guided(model, plan):
    features = replace(RELEASED.features, num_iterations=1)
    fresco = Fresco(model.spatial, replace(RELEASED, features=features, plan=plan), cell=8)
    counts = [ROWS * COLS, ROWS * COLS // 4]
    network = GuidedNetwork(
        network=model,
        fresco=fresco,
        clip=ClipCorrespondence(
            num_frames=FRAMES,
            tokens={count: random_tokens(FRAMES, count) for count in counts},
            flow=random_flow(FRAMES, 8 * ROWS, 8 * COLS),
        ),
        reference=draw(1, FRAMES, 4, ROWS, COLS, seed=3),
        timesteps=TIMESTEPS,
        num_steps=STEPS,
    )
    with fresco.attached():
        return solve(network), network


def test_everything_off_is_the_unguided_run_bit_for_bit(model, plain):
    assert torch.equal(guided(model, NOTHING)[0], plain)


@pytest.mark.parametrize("part", ["spatial", "cross", "temporal", "features"])
def test_every_part_changes_the_result(model, plain, part):
    out, _ = guided(model, replace(NOTHING, **{part: 1.0}))
    assert out.isfinite().all()
    assert not torch.allclose(out, plain, atol=1e-4)


def test_prompt_and_negative_prompt_have_references_of_their_own(model):
    _, network = guided(model, StepPlan())
    (_, first), (_, second) = network._known
    name = next(iter(first.hidden))
    assert not torch.equal(first.hidden[name], second.hidden[name])
