"""The training loop: no knowledge of the task, exact resume, averages, a log and pictures."""

import csv
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from legato.device import choose_device, choose_dtype
from legato.training.checkpoint import load_checkpoint, save_checkpoint
from legato.training.ema import Ema

Batch = dict[str, Any]
Log = Callable[[str], None]


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


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """How long and how fast a stage learns."""

    steps: int = 4000
    """Optimizer steps of the whole stage."""
    learning_rate: float = 4e-4
    """Peak rate of AdamW; 200 steps of warm-up, cosine to 2% over the second half."""
    ema_decay: float = 0.999
    """Decay of the averaged weights."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    validate_every: int = 500
    """Steps between validations, each with a checkpoint and a picture grid."""
    log_every: int = 25
    """Steps between lines of the log."""
    seed: int = 0
    """Seed of the batches and of all noise."""


def rate_at(step: int, options: TrainerOptions) -> float:
    """Return the learning rate at a step: warm-up, constant, cosine over the second half."""
    warm = min(1.0, (step + 1) / 200)
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
    log: Log = lambda line: None,
) -> bool:
    """Train until the last step or the time is up; return whether the stage is finished.

    Args:
        task: what to learn.
        batches: from a step number, the batches from that step on; must depend on it only.
        folder: checkpoint, `log.csv` and pictures; a checkpoint there is continued exactly.
        max_minutes: stop, with a checkpoint, after this long.
        log: receives lines for people.
    """
    started = time.monotonic()
    accelerator = Accelerator(mixed_precision=_precision(), cpu=not torch.cuda.is_available())
    task.module.to(accelerator.device)
    trained = [p for p in task.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
    )
    ema = Ema(task.module, options.ema_decay)
    checkpoint, step = folder / "checkpoint.safetensors", 0
    if checkpoint.exists():
        step = load_checkpoint(checkpoint, module=task.module, ema=ema, optimizer=optimizer)
        log(f"continuing at step {step}")
    for batch in _until(batches(step), options.steps - step):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, options)
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        with accelerator.autocast():
            loss, figures = task.loss(_moved(batch, accelerator.device), generator)
        accelerator.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(trained, options.clip_norm)
        if torch.isfinite(norm):  # a rare overflow must not poison the optimizer's state
            optimizer.step()
            ema.update(task.module)
        optimizer.zero_grad(set_to_none=True)
        step += 1
        minutes = (time.monotonic() - started) / 60
        over = max_minutes is not None and minutes > max_minutes
        if step % options.log_every == 0:
            row: dict[str, float | int] = {
                "step": step,
                "minutes": round(minutes, 2),
                "loss": loss.item(),
                **figures,
            }
            _append(folder / "log.csv", row)
            log("  ".join(f"{k} {v:.4g}" for k, v in row.items()))
        if step % options.validate_every == 0 or step == options.steps or over:
            save_checkpoint(checkpoint, step=step, module=task.module, ema=ema, optimizer=optimizer)
            _validate(task, ema, step, folder, log)
        if over:
            break
    ema.swap_(task.module)  # what follows uses the averages
    return step >= options.steps


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
    cv2.imwrite(str(folder / f"grid_{step:06d}.png"), picture[..., ::-1])


def _until(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
    if count > 0:  # else nothing is started that makes batches
        yield from (batch for _, batch in zip(range(count), batches, strict=False))


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _append(path: Path, row: dict[str, float | int]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
