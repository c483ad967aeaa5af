"""Stage `pronounce`: the acoustic model's text encoder learns how letters are read, from texts with their phonemes.

Recordings hold a few thousand different words, a lexicon holds all: words that no recording said are then read right as
well. The head that spells the phonemes tells silent letters from others; a model that speaks needs letters alone.
"""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.data import corpora
from speechllm.errors import DataError
from speechllm.text_encoder import PLACES, PhonemeHead, TextEncoder, numbers
from speechllm.training.batching import pad
from speechllm.training.loop import Schedule
from speechllm.woven import labels, letters

MARKS = ("Lm", "Mn", "Zs")  # categories of signs that are no sounds: stress and length, tildes, spaces
RAREST = 20  # a sign that stands less often in all texts is left out


@dataclass(frozen=True)
class PronounceOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    texts: tuple[str, ...]  # jsonl files with rows of lang, text and phonemes
    batch: int = 64  # texts
    beside: int = 24  # texts in each batch of the stage `acoustic`, so that nothing is forgotten; 0: none
    kept_out: int = 200  # texts of each file that are not learned, for `errors`
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """Texts and their phonemes."""

    labels: Tensor  # (B, L) of the letters
    languages: Tensor  # (B,)
    lengths: Tensor  # (B,) of the labels
    phonemes: Tensor  # (B, P), 0: padding
    counts: Tensor  # (B,) of them

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return replace(self, **{name: each.to(device) for name, each in vars(self).items()})


class Texts:
    """Batches by number.

    Raises DataError where a file has no such rows.
    """

    def __init__(self, options: PronounceOptions) -> None:
        self.options = options
        self.languages, self.kept_out = list[list[dict]](), list[list[dict]]()
        for path in options.texts:
            rows = list(corpora.rows(Path(path)))
            if len(rows) <= options.kept_out or not all({"lang", "text", "phonemes"} <= row.keys() for row in rows):
                raise DataError(f"{path}: needs more than {options.kept_out} rows, each with lang, text and phonemes")
            random.Random(options.seed).shuffle(rows)
            self.languages.append(rows[options.kept_out :])
            self.kept_out.append(rows[: options.kept_out])
        seen = Counter(sign for rows in self.languages for row in rows for sign in row["phonemes"])
        self.signs = sorted(sign for sign, count in seen.items() if count >= RAREST)
        self.marks = tuple(i for i, sign in enumerate(self.signs, start=1) if unicodedata.category(sign) in MARKS)
        self._ids = {sign: number for number, sign in enumerate(self.signs, start=1)}

    def batch(self, number: int, size: int) -> Batch:
        """So many texts, of each file as many."""
        rng = random.Random(f"{self.options.seed}/{number}")
        return self.written([rng.choice(self.languages[place % len(self.languages)]) for place in range(size)])

    def written(self, rows: Sequence[dict]) -> Batch:
        """Rows as a batch."""
        said, lengths = pad([torch.tensor(labels(letters(row["text"]))) for row in rows])
        signs = [[self._ids[sign] for sign in row["phonemes"] if sign in self._ids] for row in rows]
        phonemes, counts = pad([torch.tensor(each, dtype=torch.long) for each in signs])
        return Batch(said, numbers([row["lang"] for row in rows]), lengths, phonemes, counts)


class Pronouncer(nn.Module):
    """A text encoder with a head for phonemes."""

    def __init__(self, text: TextEncoder, head: PhonemeHead) -> None:
        super().__init__()
        self.text, self.head = text, head

    def forward(self, batch: Batch) -> Tensor:
        """CTC loss a phoneme, ()."""
        found = self.head(self.text(batch.labels, batch.languages))
        chances = found.flatten(1, 2).float().log_softmax(-1)
        lengths = batch.lengths * PLACES
        return F.ctc_loss(chances.transpose(0, 1), batch.phonemes, lengths, batch.counts, zero_infinity=True)


class PronounceObjective:
    """Texts of all languages by turns."""

    def __init__(self, module: Pronouncer, texts: Texts) -> None:
        self.module: nn.Module = module
        self.texts = texts

    def batch(self, number: int) -> Batch:
        """The batch with this number."""
        return self.texts.batch(number, self.texts.options.batch)

    def loss(self, module: Any, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """`Pronouncer.forward` of a batch."""
        return module(batch.to(next(module.parameters()).device)), {}


def read(module: Pronouncer, batch: Batch) -> list[list[int]]:
    """The phonemes that it reads greedily."""
    with torch.inference_mode():
        best = module.head(module.text(batch.labels, batch.languages)).argmax(-1).flatten(1)
    rows = [row[: PLACES * length] for row, length in zip(best, batch.lengths.tolist(), strict=True)]
    return [[int(sign) for sign in row.unique_consecutive() if sign] for row in rows]


def errors(module: Pronouncer, texts: Texts) -> dict[str, float]:
    """Phoneme error rate in the texts of each language that were kept out, %."""
    found = {}
    for rows in filter(None, texts.kept_out):
        batch = texts.written(rows).to(next(module.parameters()).device)
        wanted = [row[:count].tolist() for row, count in zip(batch.phonemes, batch.counts.tolist(), strict=True)]
        wrong = sum(map(Levenshtein.distance, read(module, batch), wanted))
        found[rows[0]["lang"]] = 100 * wrong / max(1, sum(map(len, wanted)))
    return found
