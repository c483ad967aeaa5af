"""The loop in which a network that makes sound takes turns with discriminators that tell it from recordings.

It is one of its own: `loop.fit` has one optimizer and keeps the parameters that it trains, while here two networks take
turns and a codec's codebooks are no parameters. The rest is shared: schedule, log, checkpoints, number format, batches
by number, and a step whose numbers are not finite is passed over. A run that was killed goes on to the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from speechllm.errors import DataError
from speechllm.training import checkpoint, codec_losses
from speechllm.training.loop import Log, Schedule, all_finite, make_accelerator


class Side:
    """One of the two networks that take turns, with its optimizer."""

    def __init__(self, module: nn.Module, schedule: Schedule, accelerator: Accelerator, begins: int = 0) -> None:
        self.plain, self.schedule, self.accelerator = module, schedule, accelerator
        optimizer = torch.optim.AdamW(
            [each for each in module.parameters() if each.requires_grad],
            lr=schedule.lr,
            weight_decay=schedule.weight_decay,
            betas=(0.8, 0.99),
        )  # fmt: skip
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.rate(begins + step))
        self.module, self.optimizer = accelerator.prepare(module, optimizer)
        self.module.train()

    def learn(self, loss: Tensor) -> tuple[float, bool]:
        """Take a step; gives the norm of the gradient and whether it was taken: all numbers were finite."""
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = float(self.accelerator.clip_grad_norm_(self.plain.parameters(), self.schedule.clip) or 0.0)
        is_finite = all_finite(self.accelerator, loss, norm)
        if is_finite:
            self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm, is_finite

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; the codebooks' buffers too."""
        module = {name: each.detach().cpu().clone() for name, each in self.plain.state_dict().items()}
        return {
            "module": module,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` took."""
        load_module(self.plain, state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


def load_module(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put tensors of a checkpoint back; raises DataError if it is of another architecture."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"the checkpoint does not fit this recipe; use a new run folder ({reason})") from error


class Turns(Protocol):
    """Options of a stage whose losses these are, by name the weight of each."""

    @property
    def schedule(self) -> Schedule: ...
    @property
    def judged_from(self) -> int: ...  # step at which the discriminators begin
    @property
    def judged_ramp(self) -> int: ...  # steps in which their losses reach their weights
    @property
    def judged_channels(self) -> tuple[int, ...]: ...  # of the discriminators' layers


def fit(
    batches: Any,
    learner: nn.Module,
    sample_rate: int,
    options: Turns,
    folder: Path,
    accelerator: Accelerator | None = None,
) -> None:
    """Train `learner` in place, from the newest checkpoint in `folder` if there is one.

    Args:
        batches: by number; each has `samples` (B, N), what is to be made, and `judged`, the slice of them that the
            discriminators see.
        learner: gives what it made of a batch (B, N), and figures by name; those with a weight in `options` are losses.
        sample_rate: of the samples, Hz.

    Raises:
        TrainingError: numbers are not finite for several steps running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator, schedule = accelerator or make_accelerator(), options.schedule
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        judges = codec_losses.Discriminators(channels=options.judged_channels)
    codec = Side(learner, schedule, accelerator)
    judging = Side(judges, schedule, accelerator, options.judged_from)
    start = 0
    if (found := checkpoint.newest(folder)) is not None:
        start, state = found
        codec.load(state["codec"])
        judging.load(state["judges"])
    distance = codec_losses.MelDistance(sample_rate).to(accelerator.device)
    log = Log(folder / "log.jsonl", schedule, accelerator.is_main_process)
    world, rank = accelerator.num_processes, accelerator.process_index
    for step in range(start, schedule.steps):
        torch.manual_seed(schedule.seed + step)  # what the codebooks draw is the same after a kill
        batch = batches[step * world + rank].to(accelerator.device)
        with accelerator.autocast():
            made, figures = codec.module(batch)
        figures["mel"] = distance(made, batch.samples)
        is_judged, is_sound = step >= options.judged_from, True
        if is_judged:
            is_sound = _judge(judging, made.detach(), batch, figures)
            with accelerator.autocast(), frozen(judges):
                _be_judged(judges, made, batch, figures)
        loss = _weighted(figures, options, step)
        norm, is_finite = codec.learn(loss)
        shown = {name: float(value.detach()) for name, value in figures.items()}
        rate = float(codec.scheduler.get_last_lr()[0])
        log.add(step, float(loss.detach()), norm, shown, rate, is_finite and is_sound)
        done = step + 1
        if accelerator.is_main_process and (done % schedule.save_every == 0 or done == schedule.steps):
            checkpoint.save(folder, done, {"codec": codec.state(), "judges": judging.state()})
    accelerator.wait_for_everyone()
    learner.eval()


def _judge(judging: Side, made: Tensor, batch: Any, figures: dict[str, Tensor]) -> bool:
    """The discriminators' own step on what was `made`; whether its numbers were finite."""
    with judging.accelerator.autocast():
        real = judging.module(batch.samples[:, batch.judged])
        loss = codec_losses.discriminator_loss(real, judging.module(made[:, batch.judged]))
    figures["judges"] = loss
    return judging.learn(loss)[1]


def _be_judged(judges: nn.Module, made: Tensor, batch: Any, figures: dict[str, Tensor]) -> None:
    """What the discriminators say of the codec, for its own step."""
    with torch.no_grad():
        real = judges(batch.samples[:, batch.judged])
    fake = judges(made[:, batch.judged])
    figures["adversarial"] = codec_losses.adversarial_loss(fake)
    figures["matching"] = codec_losses.matching_loss(real, fake)


def _weighted(figures: dict[str, Tensor], options: Turns, step: int) -> Tensor:
    """The loss: each figure that has a weight by it, those of the discriminators rising from 0."""
    risen = min(1.0, (step - options.judged_from + 1) / max(1, options.judged_ramp))
    parts = []
    for name, figure in figures.items():
        if (weight := getattr(options, name, None)) is not None:
            parts.append(weight * (risen if name in ("adversarial", "matching") else 1.0) * figure)
    return torch.stack(parts).sum()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Without gradients of the parameters: what passes through to the inputs is wanted alone."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
