"""Checkpoints that survive a kill: written beside, synced, then renamed; the newest whole one is found again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

KEEP = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` (tensors and plain values) as `folder/step-N`, keep the newest two."""
    target = folder / f"step-{step:07d}"
    partial = folder / f".partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with open(partial / "state.pt", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    (partial / "step.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)
    return target


def newest_step(folder: Path) -> int | None:
    """The step of the newest whole checkpoint in `folder`, or None."""
    path = _newest(folder)
    return None if path is None else json.loads((path / "step.json").read_text())["step"]


def newest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The step and state of the newest whole checkpoint in `folder`, or None."""
    path = _newest(folder)
    if path is None:
        return None
    step = json.loads((path / "step.json").read_text())["step"]
    return step, torch.load(path / "state.pt", map_location="cpu", weights_only=True)


def _newest(folder: Path) -> Path | None:
    for path in sorted(folder.glob("step-*"), reverse=True):
        if (path / "state.pt").exists() and (path / "step.json").exists():
            return path
    return None
