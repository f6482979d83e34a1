"""Training resumes exactly, averages what it says and keeps its files whole."""

import torch
from torch import nn

from legato.training.checkpoint import load_checkpoint, save_checkpoint
from legato.training.ema import Ema
from legato.training.trainer import TrainerOptions, rate_at, train


class Line:
    """Fit y = 2x + 1 with noise from the generator."""

    def __init__(self):
        self.module = nn.Linear(1, 1)
        nn.init.zeros_(self.module.weight)
        nn.init.zeros_(self.module.bias)

    def loss(self, batch, generator):
        x = batch["x"]
        y = 2 * x + 1 + 0.1 * torch.randn(x.shape, generator=generator)
        loss = (self.module(x) - y).square().mean()
        return loss, {"error": loss.item()}

    def validate(self):
        return {"weight": self.module.weight.item()}, torch.zeros(3, 8, 8)


def batches(first):
    step = first
    while True:
        yield {"x": torch.randn(8, 1, generator=torch.Generator().manual_seed(step))}
        step += 1


def options(steps):
    return TrainerOptions(steps=steps, learning_rate=0.05, validate_every=10, log_every=5)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    whole, parts = Line(), Line()
    assert train(whole, batches, options(40), folder=_made(tmp_path / "whole"))
    assert not train(parts, batches, options(40), folder=_made(tmp_path / "parts"), max_minutes=0.0)
    again = Line()
    assert train(again, batches, options(40), folder=tmp_path / "parts")
    for mine, theirs in zip(whole.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_training_learns_and_writes_its_log(tmp_path):
    task = Line()
    train(task, batches, options(400), folder=tmp_path)
    assert abs(task.module.weight.item() - 2) < 0.2
    assert (tmp_path / "log.csv").read_text().startswith("step,minutes,loss,error")
    assert (tmp_path / "grid_000400.png").exists()


def test_the_rate_warms_up_holds_and_falls():
    o = TrainerOptions(steps=1000, learning_rate=1.0)
    assert rate_at(0, o) < 0.01
    assert rate_at(400, o) == 1.0
    assert rate_at(999, o) < 0.03
    falling = [rate_at(s, o) for s in range(500, 1000, 50)]
    assert falling == sorted(falling, reverse=True)


def test_ema_averages_and_swaps_back():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    ema = Ema(module, decay=0.5)
    nn.init.constant_(module.weight, 3.0)
    ema.update(module)  # decay min(0.5, 2/11)
    expected = 3.0 - 2.0 * (2 / 11)
    ema.swap_(module)
    assert abs(module.weight.item() - expected) < 1e-6
    ema.swap_(module)
    assert module.weight.item() == 3.0


def test_a_checkpoint_restores_module_averages_and_optimizer(tmp_path):
    module = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    ema = Ema(module)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    ema.update(module)
    save_checkpoint(tmp_path / "c.safetensors", step=7, module=module, ema=ema, optimizer=optimizer)
    other = nn.Linear(2, 1)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    other_ema = Ema(other)
    step = load_checkpoint(
        tmp_path / "c.safetensors", module=other, ema=other_ema, optimizer=other_optimizer
    )
    assert step == 7
    assert other_ema.updates == 1
    assert torch.equal(other.weight, module.weight)
    mine, theirs = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert all(torch.equal(mine[k]["exp_avg"], theirs[k]["exp_avg"]) for k in mine)
    assert not list(tmp_path.glob("*.partial"))


def _made(folder):
    folder.mkdir()
    return folder
