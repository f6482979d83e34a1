"""Later steps learn from the network's own sampling; the first is held, and nothing else learns."""

import math

import pytest
import torch

from legato.training import recipes
from legato.training.losses import PixelLoss, PixelLossWeights
from legato.training.refining_stage import RefiningOptions, RefiningTask
from legato.training.stages import StageOptions

BATCHES = 12


def task(**options):
    torch.manual_seed(0)
    system = recipes.build_embedded()
    loss = PixelLoss(PixelLossWeights(lattice=0.0), None)
    return RefiningTask(system, loss, [batch()], RefiningOptions(**options), StageOptions())


def batch():
    pictures = torch.randint(
        0, 256, (1, 2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    return {
        "frames": pictures,
        "low_res": pictures[..., ::4, ::4],
        "motion": torch.zeros(1, 2, 6, 16, 16),
        "words": torch.zeros(1, 8).long(),
        "flow": torch.zeros(1, 1, 2, 64, 64),
        "visible": torch.ones(1, 1, 1, 64, 64),
    }


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.UNET, "block_out_channels", (16, 16, 32, 32))
        yield


def shaken(parts):
    for value in parts.parameters():
        value.data += 0.05 * torch.randn(
            value.shape, generator=torch.Generator().manual_seed(value.numel())
        )


def test_held_is_the_first_step_as_it_was_before():
    stage = task(holding_share=1.0)
    loss, figures = stage.loss(batch(), torch.Generator().manual_seed(0))
    assert figures["apart"] < 1e-5  # with gradients layers round in another order
    shaken(stage.module.unet)
    loss, figures = stage.loss(batch(), torch.Generator().manual_seed(0))
    assert figures["apart"] > 0.001
    assert loss.item() == pytest.approx(8 * figures["apart"])


@pytest.mark.parametrize("holding_share", [0.0, 1.0])
def test_only_the_network_learns(holding_share):
    stage = task(holding_share=holding_share)
    shaken(stage.module.unet)
    stage.loss(batch(), torch.Generator().manual_seed(0))[0].backward()
    learned = {
        name.split(".")[0] for name, p in stage.module.named_parameters() if p.grad is not None
    }
    assert learned == {"unet"}
    assert all(p.grad is None for p in stage.before.parameters())


def test_the_log_has_the_same_columns_whatever_a_batch_is_for():
    stage = task(holding_share=0.5)
    found = [stage.loss(batch(), torch.Generator().manual_seed(k))[1] for k in range(BATCHES)]
    assert len({frozenset(figures) for figures in found}) == 1
    assert 0 < sum(math.isnan(figures["apart"]) for figures in found) < BATCHES


def test_what_is_judged_is_sampled_through_the_schedule_as_a_user_does(monkeypatch):
    stage, asked = task(holding_share=0.0, last_share=1.0), []
    predict = stage.module.predict

    def told(noisy, low_res, timestep, *others):
        asked.append((timestep, torch.is_grad_enabled()))
        return predict(noisy, low_res, timestep, *others)

    monkeypatch.setattr(stage.module, "predict", told)
    schedules = [stage.module.schedule.timesteps(n)[1:] for n in (2, 4, 8)]
    for k in range(BATCHES):
        asked.clear()
        stage.loss(batch(), torch.Generator().manual_seed(k))
        timesteps, learning = zip(*asked, strict=True)
        assert list(timesteps) in schedules
        assert learning == (False,) * (len(asked) - 1) + (True,)
