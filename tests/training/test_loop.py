"""The loop: resuming equals never having stopped, a kill leaves the last whole checkpoint, a bad loss stops it."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from speechllm.errors import TrainingError
from speechllm.training import checkpoint
from speechllm.training.loop import Schedule, fit, trained_state


class Line:
    """Fit y = 2 x + 1 from batches made from their number."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Linear(1, 1)
        self.asked: list[int] = []

    def batch(self, number: int) -> Tensor:
        self.asked.append(number)
        return torch.randn(8, 1, generator=torch.Generator().manual_seed(number))

    def loss(self, module: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        return (module(batch) - 2 * batch - 1).square().mean(), {"rows": float(len(batch))}


def train(folder: Path, steps: int, until: int | None = None) -> Line:
    line = Line()
    schedule = Schedule(steps=steps, lr=0.05, warmup=2, save_every=5, log_every=5)
    if until is not None:
        original = line.loss

        def stopping(module: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
            if len(line.asked) >= until:
                raise KeyboardInterrupt
            return original(module, batch)

        line.loss = stopping  # type: ignore[method-assign]
    fit(line, schedule, folder, Accelerator(cpu=True))
    return line


def test_it_learns(tmp_path: Path) -> None:
    module = train(tmp_path, 300).module
    assert module.weight.item() == pytest.approx(2, abs=0.05)
    assert module.bias.item() == pytest.approx(1, abs=0.05)


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = trained_state(train(tmp_path / "whole", 30).module)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", 30, until=18)
    assert checkpoint.newest_step(tmp_path / "cut") == 15
    resumed = train(tmp_path / "cut", 30)
    assert min(resumed.asked) == 15
    for name, tensor in trained_state(resumed.module).items():
        assert torch.equal(tensor, whole[name]), name


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 5, {"module": {}})
    (tmp_path / "step-0000010").mkdir()
    (tmp_path / "step-0000010" / "state.pt").write_bytes(b"half")
    assert checkpoint.newest_step(tmp_path) == 5


def test_old_checkpoints_go(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-0000003", "step-0000004"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    line = Line()
    line.loss = lambda module, batch: (module(batch).sum() * float("nan"), {})  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="not finite since step 0"):
        fit(line, Schedule(steps=50, log_every=1), tmp_path, Accelerator(cpu=True))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 5)
    line = Line()
    line.module = nn.Linear(1, 1, bias=False)
    with pytest.raises(TrainingError, match="bias"):
        fit(line, Schedule(steps=10), tmp_path, Accelerator(cpu=True))


def test_the_schedule_rises_and_falls() -> None:
    schedule = Schedule(steps=100, warmup=10)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)
