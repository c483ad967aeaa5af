"""Stage `align`: the first pass learns to spell recordings whose language it hears badly, so as to time their letters.

Where the letters of a recording are said is what a voice learns from. The CTC head tells it well in languages that it
knows; of one that it does not know it puts letters where they are not. What it learns here is used for that alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speechllm.audio.decode import load
from speechllm.data import cache
from speechllm.hearing import Ear
from speechllm.training.ctc import CTCOptions
from speechllm.training.loop import Schedule


@dataclass(frozen=True)
class AlignOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    corpora: tuple[str, ...]  # that are learned, and timed by what was learned
    frames: int = 12000  # padded frames (50 Hz) of a batch
    seed: int = 0

    @property
    def ctc(self) -> CTCOptions:
        """The same for the stage `ctc`, whose objective it is."""
        return CTCOptions(schedule=self.schedule, frames=self.frames, seed=self.seed)


def frames_cache(root: Path, key: str, rows: Sequence[dict], ear: Ear) -> cache.Cache:
    """Of each row (audio) `hidden` (T, D) fp16, the ear's frames. key: names what made them."""
    plain = [{"audio": row["audio"]} for row in rows]

    def compute(part: list[dict]) -> list[dict[str, Tensor]]:
        return [{"hidden": ear.frames(load(row["audio"]))[0][0].to(torch.float16)} for row in part]

    return cache.build(root, f"frames-{cache.digest(key, plain)}", plain, compute, "frames")
