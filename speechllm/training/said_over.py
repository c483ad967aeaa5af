"""Recordings said over: the first codebook as the LLM says it, letter for letter, with the recording's own past.

The acoustic model learns with these codes what it will be given: the LLM's are not those of a recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from speechllm.data import cache
from speechllm.data.voiced import fits, together
from speechllm.language.vocabulary import Vocabulary
from speechllm.speaking import Sampling
from speechllm.training.speaking import Speaking, batched, write

BATCH = 16  # rows at once


def said_over(
    root: Path, key: str, rows: Sequence[dict], voiced: cache.Cache, module: Speaking, vocabulary: Vocabulary
) -> cache.Cache:
    """Of each row `said` (T,) int16, as long as its codes; the recording's own where its letters don't fit.

    key: names what made them, the rows' codes and the LLM.
    """
    group = module.tokens.group
    numbered = [{"number": number, "audio": row["audio"]} for number, row in enumerate(rows)]

    def compute(part: list[dict]) -> list[dict[str, Tensor]]:
        first = {row["number"]: voiced[row["number"]]["codes"][0].clone() for row in part}
        fitting = [number for number in first if fits(rows[number], voiced[number], group)]
        fitting.sort(key=lambda number: len(first[number]))
        generator = torch.Generator().manual_seed(part[0]["number"])
        for start in range(0, len(fitting), BATCH):
            chosen = fitting[start : start + BATCH]
            written = [write(together(rows, voiced, [number], group), group, vocabulary, number) for number in chosen]
            batch = batched(written, [row.read for row in written]).to(module.language.device)
            drawn = module.drawn(batch, Sampling().temperature, generator)
            for number, codes in zip(chosen, drawn, strict=True):
                first[number][: codes.numel()] = codes.flatten().to(first[number])
        return [{"said": first[row["number"]]} for row in part]

    return cache.build(root, f"said-{cache.digest(key, numbered)}", numbered, compute, "said over")
