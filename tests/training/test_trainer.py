"""Training resumes exactly, averages what it says and keeps its files whole."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from legato.errors import Interrupted, ModelError, ResourceError
from legato.pipelines.lock import Lock
from legato.training.checkpoint import load_checkpoint, save_checkpoint
from legato.training.ema import Ema
from legato.training.stopping import stopped_by
from legato.training.trainer import (
    CHECKPOINT,
    LOCK,
    Clock,
    TrainerOptions,
    _clipped_norm,
    _groups,
    rate_at,
    train,
)


class Line:
    """Fit y = 2x + 1 with noise from the generator."""

    def __init__(self):
        self.module = nn.Linear(1, 1)
        nn.init.zeros_(self.module.weight)
        nn.init.zeros_(self.module.bias)

    def line(self, x):
        """Compute it by elements, which autocast leaves in float32 on every CPU."""
        return x * self.module.weight + self.module.bias

    def loss(self, batch, generator):
        x = batch["x"]
        y = 2 * x + 1 + 0.1 * torch.randn(x.shape, generator=generator)
        loss = (self.line(x) - y).square().mean()
        return loss, {"error": loss.item()}

    def validate(self):
        return {"weight": self.module.weight.mean().item()}, torch.zeros(3, 8, 8)


def batches(first):
    step = first
    while True:
        yield {"x": torch.randn(8, 1, generator=torch.Generator().manual_seed(step))}
        step += 1


def options(steps):
    return TrainerOptions(steps=steps, learning_rate=0.05, validate_every=10, log_every=5)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    whole, parts = Line(), Line()
    assert train(whole, batches, options(40), folder=tmp_path / "whole")
    assert not train(parts, batches, options(40), folder=tmp_path / "parts", max_minutes=0.0)
    again = Line()
    assert train(again, batches, options(40), folder=tmp_path / "parts")
    for mine, theirs in zip(whole.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def stopped_behind(step):
    """Stop a loop of training when it has asked that often, once behind each step."""
    asked = []

    def stop():
        asked.append(True)
        return len(asked) == step

    return stopped_by(lambda: nullcontext(stop))


@pytest.mark.parametrize("step", [3, 10, 40])
def test_a_run_that_is_asked_to_stop_goes_on_to_the_same_weights(tmp_path, step):
    whole, parts, again = Line(), Line(), Line()
    assert train(whole, batches, options(40), folder=tmp_path / "whole")
    said = rf"stopped behind step {step} of 40: .*; the same command goes on"
    with stopped_behind(step), pytest.raises(Interrupted, match=said):
        train(parts, batches, options(40), folder=tmp_path / "parts")
    lines = []
    assert train(again, batches, options(40), folder=tmp_path / "parts", log=lines.append)
    assert lines[0] == f"continuing at step {step}"
    for mine, theirs in zip(whole.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_two_runs_do_not_train_in_one_folder(tmp_path):
    with Lock(tmp_path / LOCK), pytest.raises(ResourceError, match="another run"):
        train(Line(), batches, options(1), folder=tmp_path)
    assert train(Line(), batches, options(1), folder=tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    train(Line(), batches, options(2), folder=tmp_path)
    checkpoint = tmp_path / "checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    for damaged in (b"", whole[:-5], whole.replace(b"updates", b"uqdates")):
        checkpoint.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"checkpoint\.safetensors.*remove it") as error:
            train(Line(), batches, options(4), folder=tmp_path)
        assert "\n" not in str(error.value)


class Picture(Line):
    """Fit a picture to its blurred copy by a convolution that lies channels-last in memory."""

    def __init__(self):
        torch.manual_seed(0)
        self.module = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)

    def loss(self, batch, generator):
        x = torch.randn(2, 4, 6, 6, generator=generator)
        return (self.module(x) - x[..., 1:-1, 1:-1]).square().mean(), {}


def test_resuming_keeps_moments_beside_their_weights_whatever_the_memory_layout(tmp_path):
    whole, parts, again = Picture(), Picture(), Picture()
    train(whole, batches, options(4), folder=tmp_path / "whole")
    train(parts, batches, options(4), folder=tmp_path / "parts", max_minutes=0.0)
    train(again, batches, options(4), folder=tmp_path / "parts")
    assert torch.equal(whole.module.weight, again.module.weight)


def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path):
    """The noise of the targets is drawn in the same order; rounding differs."""
    at_once, in_parts = Line(), Line()

    def halves(first):
        for batch in batches(first):
            yield from ({"x": half} for half in batch["x"].chunk(2))

    train(at_once, batches, options(20), folder=tmp_path / "whole")
    accumulating = replace(options(20), accumulation=2)
    train(in_parts, halves, accumulating, folder=tmp_path / "halves")
    for mine, theirs in zip(at_once.module.parameters(), in_parts.module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


class Duel:
    """Two numbers, one of them the other's adversary; the larger gradient is the adversary's."""

    def __init__(self):
        self.module = nn.ParameterDict({"model": torch.zeros(1), "rival": torch.zeros(1)})
        self.adversary = nn.ParameterList([self.module["rival"]])

    def loss(self, batch, generator):
        return self.module["model"].sum() + 1000 * self.module["rival"].sum(), {}

    def validate(self):
        return {}, torch.zeros(3, 8, 8)


def test_an_adversary_is_clipped_by_itself():
    """Clipped together, the model's gradient would be a thousandth of the largest norm."""
    duel = Duel()
    groups = _groups(duel)
    assert [[p is duel.module["model"] for p in group] for group in groups] == [[True], [False]]
    duel.loss({}, torch.Generator())[0].backward()
    norms = [_clipped_norm(group, 1.0, Accelerator(cpu=True)) for group in groups]
    assert [norm.item() for norm in norms] == [1.0, 1000.0]
    assert duel.module["model"].grad.item() == pytest.approx(1.0, rel=1e-5)
    assert duel.module["rival"].grad.item() == pytest.approx(1.0, rel=1e-5)


class Still(Line):
    """Without noise, so that the batches alone decide."""

    def loss(self, batch, generator):
        return (self.line(batch["x"]) - 2 * batch["x"] - 1).square().mean(), {}


ON_TWO = """
import sys
from pathlib import Path
import torch
from accelerate import PartialState
sys.path.insert(0, sys.argv[2])
from test_trainer import Still, batches, options
from legato.training.trainer import train

state, task, folder = PartialState(cpu=True), Still(), Path(sys.argv[1])
drawn, loss = [], task.loss

def noted(batch, generator):
    drawn.append(torch.rand((), generator=generator).item())
    return loss(batch, generator)

task.loss = noted

def share(first):
    for batch in batches(first):
        yield {"x": batch["x"].chunk(state.num_processes)[state.process_index]}

train(task, share, options(20), folder=folder, max_minutes=100.0)
(folder / f"drawn_{state.process_index}.txt").write_text(repr(drawn))
if state.is_main_process:
    torch.save(task.module.state_dict(), folder / "result.pt")
state.destroy_process_group()
"""


STOPPED_ON_TWO = """
import sys
from contextlib import nullcontext
from pathlib import Path
from accelerate import PartialState
sys.path.insert(0, sys.argv[2])
from test_trainer import Still, batches, options, stopped_behind
from legato.errors import Interrupted
from legato.training.trainer import train

state, folder = PartialState(cpu=True), Path(sys.argv[1])
with stopped_behind(3) if state.process_index == 1 else nullcontext():
    try:
        train(Still(), batches, options(20), folder=folder)
    except Interrupted as error:
        (folder / f"{state.process_index}.txt").write_text(str(error))
state.destroy_process_group()
"""


@pytest.mark.slow
def test_what_one_process_is_asked_all_do(tmp_path):
    script, tests = tmp_path / "script.py", str(Path(__file__).parent)
    script.write_text(STOPPED_ON_TWO)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launch, str(script), str(tmp_path), tests]
    subprocess.run(command, check=True, timeout=300)
    told = {(tmp_path / f"{process}.txt").read_text() for process in range(2)}
    assert len(told) == 1
    assert "behind step 3 of 20" in told.pop()
    assert (tmp_path / CHECKPOINT).exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    alone = Still()
    train(alone, batches, options(20), folder=tmp_path / "alone")
    script, tests = tmp_path / "script.py", str(Path(__file__).parent)
    script.write_text(ON_TWO)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([sys.executable, *launch, str(script), str(tmp_path), tests], check=True)
    together = torch.load(tmp_path / "result.pt", weights_only=True)
    for name, value in alone.module.state_dict().items():
        torch.testing.assert_close(value, together[name], rtol=1e-5, atol=1e-6)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5  # one process wrote it
    drawn = [(tmp_path / f"drawn_{process}.txt").read_text() for process in (0, 1)]
    assert drawn[0] != drawn[1]  # noise of its own for each


def test_training_learns_and_writes_its_log(tmp_path):
    task = Line()
    train(task, batches, options(400), folder=tmp_path)
    assert abs(task.module.weight.item() - 2) < 0.2
    assert (tmp_path / "log.csv").read_text().startswith("step,minutes,loss,error")
    assert (tmp_path / "grid_000400.png").exists()


class Overflowing(Still):
    """The third batch overflows."""

    def loss(self, batch, generator):
        loss, figures = super().loss(batch, generator)
        self.count = getattr(self, "count", 0) + 1
        return loss * (float("inf") if self.count == 3 else 1.0), figures


def test_a_step_that_overflows_is_left_out(tmp_path):
    task = Overflowing()
    train(task, batches, options(40), folder=tmp_path)
    left = load_file(tmp_path / CHECKPOINT)
    assert all(value.isfinite().all() for value in left.values())
    assert left["optimizer/0/step"] == 39


def test_averages_are_what_is_validated_and_what_is_left(tmp_path):
    task, validated = Still(), []
    task.validate = lambda: (validated.append(task.module.weight.item()), Still.validate(task))[1]
    train(task, batches, options(20), folder=tmp_path)
    left = load_file(tmp_path / CHECKPOINT)
    assert validated[-1] == task.module.weight.item() == left["ema/weight"].item()
    assert left["module/weight"].item() != left["ema/weight"].item()


def test_the_seed_decides_the_noise(tmp_path):
    learned = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        task = Line()
        train(task, batches, replace(options(5), seed=seed), folder=tmp_path / name)
        learned.append(task.module.weight.item())
    assert learned[0] == learned[1] != learned[2]


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


def test_the_stages_of_a_run_share_its_minutes(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("legato.training.trainer.time.monotonic", lambda: now)
    clock, endless = Clock(2.0), Clock(None)
    assert clock.left == 2
    now += 90
    assert clock.left == 0.5
    now += 90
    assert clock.left == 0
    assert endless.left is None
    fresh, begun = tmp_path / "fresh", tmp_path / "begun"
    begun.mkdir()
    (begun / CHECKPOINT).touch()
    assert clock.allows(fresh)  # the first stage of a run
    assert not clock.allows(fresh)
    assert clock.allows(begun)
    assert endless.allows(fresh)
    assert endless.allows(fresh)
