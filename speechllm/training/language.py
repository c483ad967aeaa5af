"""Stage `language`: the LLM learns the tasks by LoRA, mostly from text written as a reader would have read it.

Unpaired text trains every skill, because the bridge speaks in the LLM's own embeddings. Rows of real
clips add the residual of their frames. The loss counts answer tokens only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.bridge import ReadingBridge
from speechllm.conversation import Conversation, Filled, fill, render
from speechllm.language.base import Language
from speechllm.language.vocabulary import Vocabulary
from speechllm.training.batching import Buckets, pad
from speechllm.training.loop import Schedule


@dataclass(frozen=True)
class LanguageOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    base: str = "gemma-3-270m"
    source: str | None = "packages"  # where the base must come from; None: from anywhere
    rank: int = 32
    alpha: int = 64
    dropout: float = 0.0
    tokens: int = 4096  # padded tokens of a batch
    longest: int = 256  # rows with more tokens are left out
    rows: int = 200_000  # of the mixture
    shares: Mapping[str, float] | None = None  # of the tasks in the mixture; None: its own
    whole_head_every: int = 8  # batches to one whose loss counts every output row, so that the others learn to lose
    phone_share: float = 0.22  # of the translations: telephone prompts, the one large source with Italian
    recordings: int = 800  # real clips as they are read; other rows are text alone
    learns_residual: bool = True  # whether the frames of the real clips teach the bridge; else it stays at zero
    checks_readings: bool = False  # whether the finished model lets the LLM check what `transcribe` read
    seed: int = 0


def write(row: dict, vocabulary: Vocabulary) -> Filled:
    """Ids of a row {instruction, text, answer}: the conversation that inference builds, its audio place filled."""
    conversation = Conversation.ask(row["instruction"], row["answer"])
    return fill(render(conversation, vocabulary.form, vocabulary), [vocabulary.encode(row["text"])])


def padded(rows: Sequence[Filled]) -> tuple[Tensor, Tensor]:
    """ids (B, N), and labels (B, N): the next token where it is the answer's, else -100; filled up on the right."""
    ids, _ = pad([torch.tensor(row.ids) for row in rows])
    after, _ = pad([torch.tensor([*row.supervised[1:], False]) for row in rows])
    return ids, torch.where(after.bool(), ids.roll(-1, 1), -100)


def answer_loss(
    language: Language, embeddings: Tensor, labels: Tensor, every_row: bool = False
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the labelled tokens, an answer of n tokens counting as the square root of n.

    By tokens alone a one-word answer ("how many words are there?") would hardly count beside a copied sentence.

    Args:
        embeddings: (B, N, H), rows filled up on the right: a causal model's labelled positions never see the padding.
        labels: (B, N) of `padded`.
        every_row: compare with all output rows; else with those in use, and labels outside them are not counted.
    """
    hidden = language(embeddings)
    kept = labels != -100
    weights = kept.sum(1, keepdim=True).clamp(min=1).rsqrt().expand_as(labels)[kept]
    targets = labels[kept] if every_row else language.columns(labels[kept])
    weights = weights * (targets != -1)
    losses = F.cross_entropy(
        language.scores(hidden[kept], every_row).float(), targets, ignore_index=-1, reduction="none"
    )
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6), {"tokens": float(kept.sum())}


class Adapted(nn.Module):
    """What learns in this stage: the LLM's adapters and the bridge's residual."""

    def __init__(self, language: Language, bridge: ReadingBridge) -> None:
        super().__init__()
        self.language, self.bridge = language, bridge

    def forward(
        self, ids: Tensor, labels: Tensor, frames: list[tuple[int, int, Tensor]], every_row: bool = False
    ) -> tuple[Tensor, dict[str, float]]:
        """`answer_loss` of a batch of `LanguageObjective`, the residual of the frames added where there are any."""
        embeddings = self.language.embed(ids)
        if frames:
            embeddings = embeddings.clone()
        for row, start, pooled in frames:
            end = start + len(pooled)
            embeddings[row, start:end] = self.bridge(embeddings[row, start:end].clone(), pooled.to(ids.device))
        return answer_loss(self.language, embeddings, labels, every_row)


class LanguageObjective:
    """Cross-entropy of the answers over the output rows in use.

    Args:
        rows: written rows; `pooled(i)` gives the (N, D) frames under row i's reading, or None for text alone.
    """

    def __init__(
        self, module: Adapted, rows: Sequence[Filled], pooled: Callable[[int], Tensor | None], options: LanguageOptions
    ) -> None:
        self.module: nn.Module = module
        self.rows, self.pooled, self.options = rows, pooled, options
        self.buckets = Buckets([len(row.ids) for row in rows], options.tokens, options.seed)

    def batch(self, number: int) -> tuple[Tensor, Tensor, list[tuple[int, int, Tensor]], bool]:
        """ids (B, N), labels (B, N) of the next token or -100, the frames: row, first position, (n, D); which rows."""
        chosen = self.buckets[number]
        rows = [self.rows[i] for i in chosen]
        ids, labels = padded(rows)
        frames = [
            (place, row.places[0][1], found)
            for place, (i, row) in enumerate(zip(chosen, rows, strict=False))
            if (found := self.pooled(i)) is not None
        ]
        return ids, labels, frames, number % self.options.whole_head_every == 0

    def loss(self, module: Any, batch: tuple) -> tuple[Tensor, dict[str, float]]:
        """`answer_loss`, the residual of the frames added where there are any."""
        ids, labels, frames, every_row = batch
        device = next(module.parameters()).device
        return module(ids.to(device), labels.to(device), frames, every_row)
