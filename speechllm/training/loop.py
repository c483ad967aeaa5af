"""The whole training step on one screen: one explicit loop on accelerate for every stage of a recipe.

A stage gives an objective: a module whose trainable parameters learn, batches that can be asked for by number
(so that resuming at step n costs nothing), and a loss.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from speechllm.errors import TrainingError
from speechllm.precision import fast_dtype
from speechllm.training import checkpoint


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns."""

    steps: int  # optimizer steps
    lr: float = 5e-4  # peak learning rate, reached after `warmup` steps, then down to a tenth of it by a cosine
    warmup: int = 50  # steps
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    save_every: int = 200  # steps between checkpoints
    log_every: int = 20  # steps between lines of log.jsonl
    seed: int = 0

    def rate(self, step: int) -> float:
        """Share of the peak learning rate at `step`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))


class Objective(Protocol):
    """What a stage of a recipe gives to the loop."""

    module: nn.Module

    def batch(self, number: int) -> Any:
        """The batch with this number; the same for the same number and seed, whatever was asked before."""
        ...

    def loss(self, module: Any, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch and named figures to log."""
        ...


def fit(objective: Objective, schedule: Schedule, folder: Path, accelerator: Accelerator | None = None) -> nn.Module:
    """Train `objective.module` in place, from the newest checkpoint in `folder` if there is one.

    Raises:
        TrainingError: loss or gradient are not finite for several steps running; one alone is passed over, its
            step not taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator or make_accelerator()
    trained = [p for p in objective.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=schedule.lr, weight_decay=schedule.weight_decay, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
    found = checkpoint.newest(folder)
    start = 0
    if found is not None:
        start, state = found
        load_trained(objective.module, state["module"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
    module, optimizer = accelerator.prepare(objective.module, optimizer)
    module.train()
    torch.manual_seed(schedule.seed + start)
    log = Log(folder / "log.jsonl", schedule, accelerator.is_main_process)
    for step, batch in _batches(objective, start, schedule.steps, accelerator):
        with accelerator.autocast():
            loss, figures = objective.loss(module, batch)
        accelerator.backward(loss)
        norm = float(accelerator.clip_grad_norm_(trained, schedule.clip) or 0.0)
        is_finite = all_finite(accelerator, loss, norm)
        if is_finite:
            optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        log.add(step, float(loss.detach()), norm, figures, float(scheduler.get_last_lr()[0]), is_finite)
        done = step + 1
        if accelerator.is_main_process and (done % schedule.save_every == 0 or done == schedule.steps):
            plain = accelerator.unwrap_model(module)
            checkpoint.save(
                folder,
                done,
                {
                    "module": trained_state(plain),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                },
            )
    accelerator.wait_for_everyone()
    return objective.module.eval()


def all_finite(accelerator: Accelerator, loss: Tensor, norm: float) -> bool:
    """Whether the step can be taken: the norm is that of all processes, each loss is its own, all decide alike."""
    bad = torch.tensor(float(not (math.isfinite(norm) and torch.isfinite(loss.detach()).all())), device=loss.device)
    return not float(accelerator.reduce(bad, "sum")) if accelerator.num_processes > 1 else not float(bad)  # type: ignore[arg-type]


def make_accelerator() -> Accelerator:
    """accelerate, in bf16 where the device multiplies it fast."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mixed = "bf16" if fast_dtype(device) is torch.bfloat16 else "no"
    # A batch of text alone leaves the residual of the frames unused.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision=mixed, cpu=device == "cpu", kwargs_handlers=[unused])


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The tensors that learn, by name."""
    return {name: p.detach().cpu().clone() for name, p in module.named_parameters() if p.requires_grad}


def load_trained(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what `trained_state` took; every trained tensor must be there.

    Raises:
        TrainingError: the checkpoint is of another architecture.
    """
    mine = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if mine.keys() != tensors.keys():
        odd = sorted(mine.keys() ^ tensors.keys())[0]
        raise TrainingError(f"the checkpoint does not fit this recipe: {odd} is on one side only; use a new run folder")
    for name, parameter in mine.items():
        parameter.data.copy_(tensors[name])


def _batches(objective: Objective, start: int, steps: int, accelerator: Accelerator) -> Iterator[tuple[int, Any]]:
    """Batches of this process, the next one prepared on a thread while one is used."""
    world, rank = accelerator.num_processes, accelerator.process_index
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(objective.batch, step * world + rank) for step in range(start, min(start + 2, steps))]
        for step in range(start, steps):
            batch = ahead.pop(0).result()
            if step + 2 < steps:
                ahead.append(pool.submit(objective.batch, (step + 2) * world + rank))
            yield step, batch


class Log:
    """Means over the steps taken of `log_every`, and how many were not, to `log.jsonl` and to the terminal.

    Raises:
        TrainingError: five steps running were not finite.
    """

    def __init__(self, path: Path, schedule: Schedule, is_main: bool) -> None:
        self.path, self.schedule, self.is_main = path, schedule, is_main
        self.rows: list[dict[str, float]] = []  # of steps taken
        self.skipped = 0  # steps since the last line
        self.bad = 0  # steps running
        self.began = time.perf_counter()

    def add(
        self, step: int, loss: float, norm: float, figures: dict[str, float], lr: float, is_finite: bool = True
    ) -> None:
        """Take the figures of one step; those of one that was not finite count only as skipped."""
        self.bad = 0 if is_finite else self.bad + 1
        if self.bad >= 5:
            raise TrainingError(f"loss or gradient is not finite since step {step - 4}; lower `lr` in the recipe")
        if is_finite:
            self.rows.append({"loss": loss, "norm": norm, **figures})
        else:
            self.skipped += 1
        done = step + 1
        if done % self.schedule.log_every and done != self.schedule.steps:
            return
        names = {name for row in self.rows for name in row}
        means = {name: _mean([row[name] for row in self.rows if name in row]) for name in sorted(names)}
        a_step = (time.perf_counter() - self.began) / (len(self.rows) + self.skipped)
        line = {
            "step": done,
            **{k: round(v, 4) for k, v in means.items()},
            "lr": lr,
            "seconds_a_step": round(a_step, 3),
            **({"skipped": self.skipped} if self.skipped else {}),
        }
        self.rows, self.skipped, self.began = [], 0, time.perf_counter()
        if self.is_main:
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
            left = a_step * (self.schedule.steps - done) / 60
            print(
                f"{self.path.parent.name} {done}/{self.schedule.steps} "
                + " ".join(f"{k} {v:.4g}" for k, v in line.items() if k not in {"step"})
                + f" | {left:.0f} min left",
                flush=True,
            )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
