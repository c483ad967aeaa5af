"""The loop of turns: a loss is weighted as the options say, and a step whose numbers are not finite is not taken."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from speechllm.errors import DataError, TrainingError
from speechllm.training.adversarial import Side, _weighted, fit, frozen, load_module
from speechllm.training.loop import Schedule


@dataclass(frozen=True)
class Options:
    schedule: Schedule
    judged_from: int = 10
    judged_ramp: int = 4
    judged_channels: tuple[int, ...] = (4, 8)
    mel: float = 2.0
    latent: float = 3.0
    adversarial: float = 1.0
    matching: float = 5.0


class Gain(nn.Module):
    """Makes what it is given louder or softer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return self.gain * batch.samples, {"latent": (self.gain - 1).square()}


class Batches:
    """Noise by number; that of some numbers is not finite."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def __getitem__(self, number: int) -> Any:
        samples = torch.randn(2, 4000, generator=torch.Generator().manual_seed(number))
        batch = SimpleNamespace(samples=samples * (torch.nan if number in self.bad else 1), judged=slice(0, 4000))
        batch.to = lambda device: batch
        return batch


def train(folder: Path, *bad: int, steps: int = 12, **options: Any) -> Gain:
    learner = Gain()
    schedule = Schedule(steps=steps, lr=0.01, warmup=1, save_every=100, log_every=1)
    fit(Batches(*bad), learner, 16_000, Options(schedule, **options), folder, Accelerator(cpu=True))
    return learner


def lines(folder: Path) -> list[dict]:
    return [json.loads(row) for row in (folder / "log.jsonl").read_text().splitlines()]


def test_figures_are_weighted_and_the_judges_rise() -> None:
    options = Options(Schedule(1))
    figures = {name: torch.tensor(1.0) for name in ("mel", "latent", "adversarial", "matching", "judges")}
    for step, risen in ((10, 0.25), (12, 0.75), (13, 1.0), (99, 1.0)):
        assert float(_weighted(figures, options, step)) == pytest.approx(2 + 3 + risen * (1 + 5))
    del figures["adversarial"], figures["matching"]
    assert float(_weighted(figures, options, 0)) == 5


def test_a_network_learns_to_make_what_it_is_given(tmp_path: Path) -> None:
    learner = train(tmp_path)
    assert 0.5 < float(learner.gain.detach()) < 1.0
    assert not learner.training
    rows = lines(tmp_path)
    assert ["judges" in row for row in rows] == [step >= 10 for step in range(12)]
    assert rows[-1]["mel"] < rows[0]["mel"]


@pytest.mark.parametrize("judged_from", [0, 100])
def test_a_step_that_is_not_finite_is_not_taken(tmp_path: Path, judged_from: int) -> None:
    learner = train(tmp_path, 1, 2, 3, steps=4, judged_from=judged_from)
    assert float(learner.gain.detach()) == pytest.approx(0.51, abs=0.001)  # the first step, of the rate
    assert [row.get("skipped", 0) for row in lines(tmp_path)] == [0, 1, 1, 1]
    with pytest.raises(TrainingError, match="not finite since step 2"):
        train(tmp_path / "bad", *range(2, 20), judged_from=judged_from)


def test_what_judges_stands_still_while_the_network_learns() -> None:
    judge = nn.Linear(2, 1)
    made = torch.ones(1, 2, requires_grad=True)
    with frozen(judge):
        judge(made).sum().backward()
    assert judge.weight.grad is None and made.grad is not None
    assert judge.weight.requires_grad
    with pytest.raises(KeyError), frozen(judge):
        raise KeyError
    assert judge.weight.requires_grad


def test_a_side_is_put_back_as_it_was() -> None:
    accelerator = Accelerator(cpu=True)
    one, other = (Side(Gain(), Schedule(9, warmup=1), accelerator, begins=3) for _ in range(2))
    for _ in range(3):
        one.learn((one.plain.gain - 2).square())
    other.load(one.state())
    for side in (one, other):
        norm, is_finite = side.learn((side.plain.gain - 2).square())
        assert is_finite and norm > 0
    assert torch.equal(one.plain.gain, other.plain.gain)
    assert one.scheduler.get_last_lr() == other.scheduler.get_last_lr()
    assert one.scheduler.get_last_lr()[0] == pytest.approx(5e-4 * Schedule(9, warmup=1).rate(7))
    with pytest.raises(DataError, match="use a new run folder"):
        load_module(Gain(), {"other": torch.zeros(1)})
