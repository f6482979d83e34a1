"""The training loop: no knowledge of the task, exact resume, averages, a log and pictures.

Under `accelerate launch` every process runs the same loop on batches of its own; their gradients
are averaged before each step (docs/decisions/0018), and the first process alone writes files.
"""

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import reduce
from jaxtyping import Float
from torch import Tensor, nn

from legato.device import choose_device, choose_dtype
from legato.errors import Interrupted
from legato.pipelines.lock import Lock
from legato.training.checkpoint import load_checkpoint, save_checkpoint
from legato.training.ema import Ema
from legato.training.stopping import listening
from legato.video.atomic import writing
from legato.video.images import encode_image

Batch = dict[str, Any]
Log = Callable[[str], None]
LOCK = ".lock"
CHECKPOINT = "checkpoint.safetensors"


def silent(line: str) -> None:
    """Say nothing: of several processes the first one speaks."""


@runtime_checkable
class Task(Protocol):
    """What a stage of training computes."""

    @property
    def module(self) -> nn.Module:
        """Holds everything that is saved; trained is what requires gradients."""

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and figures for the log."""

    def validate(self) -> tuple[dict[str, float], Float[Tensor, "3 H W"]]:
        """Return figures on held-back clips and a picture grid in [-1, 1]."""


@runtime_checkable
class AdversarialTask(Task, Protocol):
    """A task whose loss is the sum of what the model and its adversary each minimise.

    Neither part's gradient may reach the other's parameters: one backward pass then serves both.
    """

    @property
    def adversary(self) -> nn.Module:
        """The part of `module` that the rest is trained against; its gradient is clipped alone."""


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """How long and how fast a stage learns."""

    steps: int = 4000
    """Optimizer steps of the whole stage."""
    learning_rate: float = 4e-4
    """Peak rate of AdamW, after the warm-up; cosine to 2% over the second half."""
    warm_up: int = 200
    """Steps over which the rate rises from nothing."""
    ema_decay: float = 0.999
    """Decay of the averaged weights."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    validate_every: int = 500
    """Steps between validations, each with a checkpoint and a picture grid."""
    log_every: int = 25
    """Steps between lines of the log."""
    accumulation: int = 1
    """Batches, on each process, whose gradients are averaged into a step."""
    seed: int = 0
    """Seed of the batches and of all noise."""


class Clock:
    """The minutes that all stages of a run have together; it begins when it is made.

    Args:
        max_minutes: None: without end.
    """

    def __init__(self, max_minutes: float | None) -> None:
        self.end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.is_first = True

    @property
    def left(self) -> float | None:
        """Minutes, 0 or more; None: without end."""
        return None if self.end is None else max(0.0, (self.end - time.monotonic()) / 60)

    def allows(self, folder: Path) -> bool:
        """Return whether to go into the next stage, on all processes alike.

        With nothing left no stage is begun, but for the first of a run; what an earlier run has
        learned in one counts all the same.
        """
        begins = not self.is_first and not (folder / CHECKPOINT).exists()
        self.is_first = False
        here = PartialState(cpu=not torch.cuda.is_available())
        return not _anywhere(begins and self.left == 0, here.device)


def rate_at(step: int, options: TrainerOptions) -> float:
    """Return the learning rate at a step: warm-up, constant, cosine over the second half."""
    warm = min(1.0, (step + 1) / options.warm_up)
    late = max(0.0, 2 * step / options.steps - 1)
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(1.0, late))).item())
    return options.learning_rate * warm * (0.02 + 0.98 * cosine)


def train(
    task: Task,
    batches: Callable[[int], Iterable[Batch]],
    options: TrainerOptions,
    *,
    folder: Path,
    max_minutes: float | None = None,
    log: Log = silent,
) -> bool:
    """Train until the last step or the time is up; return whether the stage is finished.

    Where it is asked to stop (`stopping.stopped_by`), on one process or several, all finish their
    step and the first one writes a checkpoint.

    Args:
        task: what to learn.
        batches: from a step number, this process's batches from that step on, `accumulation` to a
            step; must depend on it only.
        folder: checkpoint, `log.csv` and pictures, made if need be; a checkpoint there is
            continued exactly.
        max_minutes: stop, with a checkpoint, after this long.
        log: receives lines for people.

    Raises:
        InputError: the folder cannot be made.
        ResourceError: another run trains in the folder.
        ModelError: the checkpoint is damaged.
        Interrupted: it was asked to stop; the checkpoint is that of its last step.
    """
    is_first = PartialState(cpu=not torch.cuda.is_available()).is_main_process
    if is_first:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder / LOCK) if is_first else nullcontext():
        return _train(task, batches, options, folder=folder, max_minutes=max_minutes, log=log)


def _train(
    task: Task,
    batches: Callable[[int], Iterable[Batch]],
    options: TrainerOptions,
    *,
    folder: Path,
    max_minutes: float | None,
    log: Log,
) -> bool:
    started = time.monotonic()
    accelerator = Accelerator(mixed_precision=_precision(), cpu=not torch.cuda.is_available())
    task.module.to(accelerator.device)
    groups = _groups(task)
    optimizer = torch.optim.AdamW(
        [{"params": group} for group in groups],
        lr=options.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=1e-4,
        fused=True,
    )
    ema = Ema(task.module, options.ema_decay)
    checkpoint, step = folder / CHECKPOINT, 0
    if checkpoint.exists():
        step = load_checkpoint(checkpoint, module=task.module, ema=ema, optimizer=optimizer)
        log(f"continuing at step {step}")
    with listening() as stop:
        for parts in _until(batches(step), options.steps - step, options.accumulation):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, options)
            own = accelerator.process_index * 7_368_787  # of a seed only 32 bits count
            generator = torch.Generator().manual_seed(own + options.seed * 1_000_003 + step)
            loss, figures = _backward(task, parts, accelerator, generator)
            norms = [_clipped_norm(group, options.clip_norm, accelerator) for group in groups]
            if all(map(torch.isfinite, norms)):  # a rare overflow must not poison the state
                optimizer.step()
                ema.update(task.module)
            optimizer.zero_grad(set_to_none=True)
            step += 1
            minutes = (time.monotonic() - started) / 60
            over = max_minutes is not None and _anywhere(minutes > max_minutes, accelerator.device)
            stopped = _anywhere(stop(), accelerator.device)
            is_due = step % options.validate_every == 0 or step == options.steps or over
            if step % options.log_every == 0 and accelerator.is_main_process:
                row = {"step": step, "minutes": round(minutes, 2), "loss": loss.item(), **figures}
                _append(folder / "log.csv", row)
                log("  ".join(f"{k} {v:.4g}" for k, v in row.items()))
            if (is_due or stopped) and accelerator.is_main_process:
                save_checkpoint(
                    checkpoint, step=step, module=task.module, ema=ema, optimizer=optimizer
                )
            if is_due and not stopped and accelerator.is_main_process:
                _validate(task, ema, step, folder, log)
            if is_due or stopped:
                accelerator.wait_for_everyone()
            if stopped:
                raise _interrupted(step, options.steps)
            if over:
                break
    ema.swap_(task.module)  # what follows uses the averages
    return step >= options.steps


def _interrupted(step: int, steps: int) -> Interrupted:
    return Interrupted(
        f"stopped behind step {step} of {steps}",
        why="it was asked for; a checkpoint was written",
        fix="the same command goes on",
    )


def _groups(task: Task) -> list[list[nn.Parameter]]:
    """Return what is trained: the model, and apart from it its adversary if it has one."""
    trained = [p for p in task.module.parameters() if p.requires_grad]
    if not isinstance(task, AdversarialTask):
        return [trained]
    rivals = list(task.adversary.parameters())
    apart = {id(p) for p in rivals}
    return [[p for p in trained if id(p) not in apart], rivals]


def _backward(
    task: Task, parts: Sequence[Batch], accelerator: Accelerator, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Add up the gradients of a step's batches; return the means of their loss and figures."""
    losses: list[Tensor] = []
    sums: dict[str, float] = {}
    for batch in parts:
        with accelerator.autocast():
            loss, figures = task.loss(moved(batch, accelerator.device), generator)
        accelerator.backward(loss / len(parts))
        losses.append(loss.detach())
        sums = {name: sums.get(name, 0.0) + value / len(parts) for name, value in figures.items()}
    return torch.stack(losses).mean(), sums


def _clipped_norm(
    group: list[nn.Parameter], largest: float, accelerator: Accelerator
) -> Float[Tensor, ""]:
    """Average the gradients over the processes, shorten them to a norm, return the one they had."""
    if accelerator.num_processes > 1:
        for parameter in group:
            given = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            parameter.grad = accelerator.reduce(given, reduction="mean")
    return torch.nn.utils.clip_grad_norm_(group, largest)


def _anywhere(claim: bool, device: torch.device) -> bool:
    """Return whether a claim holds on any process, so that all of them stop together."""
    count = torch.tensor(float(claim), device=device)
    return bool(reduce(count, reduction="sum").item() > 0)


def _precision() -> str:
    """Name bfloat16 where the hardware multiplies it; emulated, it is ten times slower."""
    return "bf16" if choose_dtype("auto", choose_device("auto")) == torch.bfloat16 else "no"


def _validate(task: Task, ema: Ema, step: int, folder: Path, log: Log) -> None:
    ema.swap_(task.module)
    with torch.no_grad():
        figures, grid = task.validate()
    ema.swap_(task.module)
    _append(folder / "validation.csv", {"step": step, **figures})
    log(f"validation at {step}: " + "  ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    picture = ((grid.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    (folder / f"grid_{step:06d}.png").write_bytes(encode_image(picture, None, ".png"))


def _until(batches: Iterable[Batch], steps: int, each: int) -> Iterator[tuple[Batch, ...]]:
    if steps > 0:  # else nothing is started that makes batches
        endless = iter(batches)
        yield from islice(zip(*[endless] * each, strict=False), steps)


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its tensors on a device."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _append(path: Path, row: dict[str, float | int]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
