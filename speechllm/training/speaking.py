"""Stage `speak`: the LLM learns to predict the codes of each letter's sound, step by step (`language/speech.py`).

An adapter of its own on the LLM, and the speech rows, learn; what the LLM knew stays in its other adapter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from speechllm.data.cache import Cache, Chosen
from speechllm.data.voiced import fits, groups, together
from speechllm.language.base import Language
from speechllm.language.speech import SpeechTokens
from speechllm.language.vocabulary import Vocabulary
from speechllm.text_encoder import numbers
from speechllm.training.batching import Buckets, pad
from speechllm.training.loop import Schedule
from speechllm.voice import instruction


@dataclass(frozen=True)
class SpeakOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    corpora: tuple[str, ...]  # shared sets by name, folders with a manifest by path
    group: int = 2  # frames of a step
    layers: int = 6  # of the LLM, from below: speech needs no more of it, and costs half
    rank: int = 32
    alpha: int = 64
    tokens: int = 2048  # padded positions of a batch
    frames: int = 600  # that sentences of one speaker fill together, at most
    longest: int = 500  # rows with more positions are left out
    wrong: float = 0.5  # of a row's steps are read as others, at most: in speaking, what was said may be wrong too
    compile: bool = False  # the LLM's layers by torch.compile: 1.5 times as fast on a processor, needs a C++ compiler
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """A request and its speech."""

    prompt: Tensor  # (P,) ids
    codes: Tensor  # (S, G)
    labels: Tensor  # (L,) of the letters
    places: Tensor  # (S,) which of them a step says
    is_done: Tensor  # (S,) bool, with which steps a letter is done
    lang: str | None

    def __len__(self) -> int:
        return len(self.prompt) + len(self.codes)

    @property
    def read(self) -> Tensor:
        """The step (S, G) before each; -1 before the first."""
        return torch.cat([torch.full_like(self.codes[:1], -1), self.codes[:-1]])


def write(one: dict[str, Any], group: int, vocabulary: Vocabulary, wording: int) -> Row:
    """A row of `together`, cut to steps of `group` frames, behind the request that inference writes."""
    places = one["places"][::group]
    is_done = torch.cat([places[1:] != places[:-1], torch.ones(1, dtype=torch.bool)])
    prompt = torch.tensor(instruction(one["text"], vocabulary, wording))
    codes = one["codes"][0].unflatten(0, (-1, group))
    return Row(prompt, codes, one["labels"], places, is_done, one["lang"])


@dataclass(frozen=True)
class Batch:
    """Rows side by side, each behind its request, padded at the end."""

    prompts: Tensor  # (B, P) ids
    lengths: Tensor  # (B,) of them
    read: Tensor  # (B, S, G) codes of the steps before, -1 where there was none
    labels: Tensor  # (B, L) of the letters
    places: Tensor  # (B, S) which of them a step says
    languages: Tensor  # (B,)
    codes: Tensor  # (B, S, G)
    is_done: Tensor  # (B, S)
    steps: Tensor  # (B,) of each row

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(**{name: each.to(device) for name, each in vars(self).items()})


class Speaking(nn.Module):
    """What learns in this stage: the LLM's adapter and the speech rows."""

    def __init__(self, language: Language, tokens: SpeechTokens) -> None:
        super().__init__()
        self.language, self.tokens = language, tokens

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss of all steps (`SpeechTokens.loss`)."""
        hidden, kept = self._hidden(batch)
        loss, figures = self.tokens.loss(hidden, batch.codes[kept], batch.is_done[kept])
        return loss, {"steps": float(len(hidden)), **figures}

    @torch.no_grad()
    def drawn(self, batch: Batch, temperature: float, generator: torch.Generator) -> list[Tensor]:
        """Codes (S, G) of each row, each step drawn after the steps that the batch reads before it."""
        hidden, _ = self._hidden(batch)
        said = batch.codes.new_zeros(len(hidden), 0)
        while said.shape[1] < self.tokens.group:
            chances = (self.tokens.scores(hidden, said) / temperature).softmax(-1)
            said = torch.cat([said, torch.multinomial(chances.cpu(), 1, generator=generator).to(said)], 1)
        return list(said.split(batch.steps.tolist()))

    def _hidden(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Hidden states (N, H) of all steps, and where (row, step) each stands in the batch."""
        words = self.language.embed(batch.prompts)
        letters = self.tokens.read(batch.labels, batch.languages)
        said = letters.gather(1, batch.places[..., None].expand(-1, -1, letters.shape[2]))
        steps = self.tokens.embed(batch.read, said).to(words.dtype)
        most = int((batch.lengths + batch.steps).max())
        place = torch.arange(steps.shape[1], device=steps.device)
        is_step = place < batch.steps[:, None]
        # A step stands right behind its row's request, padding at the end: no mask is needed.
        at = (batch.lengths[:, None] + place).clamp(max=most - 1)
        embeddings = words.new_zeros(len(steps), most, words.shape[2])
        embeddings[:, : min(most, words.shape[1])] = words[:, :most]
        row, step = is_step.nonzero(as_tuple=True)
        at = at[row, step]
        embeddings = embeddings.index_put((row, at), steps[row, step])
        return self.language(embeddings)[row, at], (row, step)


def batched(rows: Sequence[Row], read: Sequence[Tensor]) -> Batch:
    """Rows side by side; read: the steps (S, G) that each reads before its own."""
    prompts, lengths = pad([row.prompt for row in rows])
    labels, places, codes, is_done = (
        pad([getattr(row, name) for row in rows])[0] for name in ("labels", "places", "codes", "is_done")
    )
    before, steps = pad(read, -1)
    languages = numbers([row.lang for row in rows])
    return Batch(prompts, lengths, before, labels, places, languages, codes, is_done, steps)


class SpeakObjective:
    """Rows drawn by length."""

    def __init__(
        self,
        module: Speaking,
        rows: Sequence[dict],
        voiced: Cache | Chosen,
        vocabulary: Vocabulary,
        options: SpeakOptions,
    ) -> None:
        self.module: nn.Module = module
        self.options = options
        rng, group = random.Random(options.seed), options.group
        fitting = [i for i in range(len(rows)) if fits(rows[i], voiced[i], group)]
        lengths = [voiced[i]["codes"].shape[1] for i in fitting]
        written = []
        for chosen in groups([rows[i] for i in fitting], lengths, options.frames, options.seed):
            one = together(rows, voiced, [fitting[i] for i in chosen], group)
            written.append(write(one, group, vocabulary, rng.randrange(1 << 16)))
        self.rows = [row for row in written if len(row) <= options.longest]
        self.buckets = Buckets([len(row) for row in self.rows], options.tokens, options.seed)

    def batch(self, number: int) -> Batch:
        """The batch with this number."""
        rng = random.Random(f"{self.options.seed}/{number}")
        rows = [self.rows[i] for i in self.buckets[number]]
        return batched(rows, [self._read(row, rng) for row in rows])

    def _read(self, row: Row, rng: random.Random) -> Tensor:
        """The steps (S, G) before each, some of them replaced by others of the row."""
        share, count = rng.uniform(0, self.options.wrong), len(row.codes)
        others = [rng.randrange(count) if rng.random() < share else i for i in range(count)]
        return torch.cat([row.read[:1], row.codes[torch.tensor(others)][:-1]])

    def loss(self, module: Any, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """`Speaking.forward` of a batch."""
        device = next(module.parameters()).device
        return module(batch.to(device))
