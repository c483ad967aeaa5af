"""The loop: resuming equals never having stopped, a kill leaves the last whole checkpoint, a bad loss stops it."""

import json
import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from speechllm.errors import TrainingError
from speechllm.training import checkpoint
from speechllm.training.loop import Schedule, all_finite, fit, trained_state


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
    assert trained_state(module)["weight"].item() == pytest.approx(2, abs=0.05)
    assert trained_state(module)["bias"].item() == pytest.approx(1, abs=0.05)


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


def spoilt(steps: int, bad: set[int], folder: Path, spoil: str) -> Line:
    """Training with a loss ("loss") or a gradient ("gradient") that is not finite in the steps `bad`."""
    line, original, seen = Line(), Line.loss, [0]

    def loss(module: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        value, figures = original(line, module, batch)
        seen[0] += 1
        if seen[0] - 1 not in bad:
            return value, figures
        if spoil == "gradient":  # the root of nothing: finite itself, of infinite slope
            return value + (0 * next(module.parameters()).sum()).abs().sqrt(), figures
        return value * float("nan"), figures

    line.loss = loss  # type: ignore[method-assign]
    fit(line, Schedule(steps=steps, lr=0.05, warmup=2, save_every=1, log_every=5), folder, Accelerator(cpu=True))
    return line


@pytest.mark.parametrize("spoil", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_passed_over(tmp_path: Path, spoil: str) -> None:
    line = spoilt(300, {3, 8, 9, 10, 11}, tmp_path, spoil)
    assert trained_state(line.module)["weight"].item() == pytest.approx(2, abs=0.05)
    lines = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row.get("skipped") for row in lines[:4]] == [1, 2, 2, None]
    assert all(math.isfinite(value) for row in lines for value in row.values())


def test_no_checkpoint_holds_what_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not finite since step 4"):
        spoilt(50, set(range(4, 50)), tmp_path, "gradient")
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert all(torch.isfinite(tensor).all() for tensor in found[1]["module"].values())


def test_a_step_passed_over_changes_no_weight(tmp_path: Path) -> None:
    spoilt(6, {5}, tmp_path, "loss")
    fifth, sixth = (
        torch.load(tmp_path / f"step-000000{step}" / "state.pt", weights_only=True)["module"] for step in (5, 6)
    )
    assert all(torch.equal(tensor, fifth[name]) for name, tensor in sixth.items())


@pytest.mark.parametrize(("others", "is_finite"), [(0.0, True), (1.0, False)])
def test_a_loss_of_another_process_counts_too(others: float, is_finite: bool) -> None:
    class Two:
        num_processes = 2

        def reduce(self, mine: Tensor, _: str) -> Tensor:
            return mine + others

    assert all_finite(Two(), torch.tensor(1.0), 1.0) is is_finite  # type: ignore[arg-type]
    assert not all_finite(Two(), torch.tensor(float("inf")), 1.0)  # type: ignore[arg-type]
