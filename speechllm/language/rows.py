"""The output rows that the loss compares: the word pieces of the supported languages' texts, and every short piece.

Gemma's head has 262,144 rows for all scripts of the world; answers here are written in Latin or Cyrillic letters. The
pieces met in the corpora make the set, with all single characters and bytes.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from speechllm.data import corpora
from speechllm.errors import DataError
from speechllm.language.vocabulary import Vocabulary

log = logging.getLogger(__name__)

TEXTS = (
    "sentences/train",
    "translation/en-de.train",
    "translation/en-fr.train",
    "translation/en-es.train",
    "translation/en-nl.train",
    "translation/en-ru.train",
    "translation/en-cs.train",
    "questions/train",
    "questions/squad_short",
    "instructions/train",
    "commands/train",
    "numbers/train",
)
SHORT = 3  # characters: pieces up to this length are always in


def used_rows(vocabulary: Vocabulary) -> Tensor:
    """(V',) int64, sorted: ids of the pieces in use. A set of texts that cannot be read is left out, with a warning."""
    found: set[int] = set(_always(vocabulary))
    for name in TEXTS:
        try:
            rows = list(corpora.texts(name))
        except DataError as error:
            log.warning("texts %s are left out, the loss compares fewer output rows: %s", name, error)
            continue
        texts = [value for row in rows for value in _strings(row)]
        for start in range(0, len(texts), 5000):
            for encoding in vocabulary.tokenizer.encode_batch(texts[start : start + 5000], add_special_tokens=False):
                found.update(encoding.ids)
    return torch.tensor(sorted(found), dtype=torch.long)


def _always(vocabulary: Vocabulary) -> list[int]:
    """Control tokens that close a turn, bytes, and short pieces of Latin, Cyrillic, digits and marks."""
    keep = []
    for piece, number in vocabulary.tokenizer.get_vocab().items():
        text = piece.replace("\u2581", "").replace("\u0120", "")
        plain = all(character < "\u0530" or "\u2010" <= character <= "\u20bf" for character in text)
        if piece.startswith("<0x") or (len(text) <= SHORT and plain):
            keep.append(number)
    return [
        *keep,
        *vocabulary.form.end,
        *(i for name in ("<eos>", "<|endoftext|>") if (i := vocabulary.id(name)) is not None),
    ]


def _strings(row: dict) -> list[str]:
    """Every text in a row, also those in its lists."""
    values = [value for value in row.values() if isinstance(value, str)]
    values += [each for value in row.values() if isinstance(value, list) for each in value if isinstance(each, str)]
    return values
