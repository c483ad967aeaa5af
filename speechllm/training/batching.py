"""Batches of rows of like length, addressed by number: batch n is the same whenever and wherever it is asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor


class Buckets:
    """Rows sorted into batches of at most `budget` padded units, shuffled anew each epoch.

    Args:
        lengths: units of each row (frames, tokens).
        budget: largest rows x longest length of a batch.
        seed: of the shuffles.
    """

    def __init__(self, lengths: Sequence[int], budget: int, seed: int) -> None:
        self.lengths, self.budget, self.seed = lengths, budget, seed
        self._epochs: dict[int, list[list[int]]] = {}
        self.size = len(self._batches(0))

    def __getitem__(self, number: int) -> list[int]:
        """Row numbers of batch `number`; epochs follow one another without end."""
        epoch = 0
        while number >= len(batches := self._batches(epoch)):
            number -= len(batches)
            epoch += 1
        return batches[number]

    def _batches(self, epoch: int) -> list[list[int]]:
        if epoch not in self._epochs:
            rng = random.Random(f"{self.seed}/{epoch}")
            # Lengths jittered by a tenth: rows meet other neighbours each epoch.
            order = sorted(range(len(self.lengths)), key=lambda i: self.lengths[i] * rng.uniform(0.9, 1.1))
            batches: list[list[int]] = [[]]
            for row in order:
                longest = max([self.lengths[row], *(self.lengths[i] for i in batches[-1])])
                if batches[-1] and longest * (len(batches[-1]) + 1) > self.budget:
                    batches.append([])
                batches[-1].append(row)
            rng.shuffle(batches)
            self._epochs[epoch] = batches
        return self._epochs[epoch]


def pad(rows: Sequence[Tensor], value: float = 0) -> tuple[Tensor, Tensor]:
    """Stack rows (T_i, …) to (B, T, …) filled with `value`, and their lengths (B,)."""
    lengths = torch.tensor([len(row) for row in rows])
    out = rows[0].new_full((len(rows), int(lengths.max()), *rows[0].shape[1:]), value)
    for row, target in zip(rows, out, strict=False):
        target[: len(row)] = row
    return out, lengths
