"""Texts that evaluations ask for: no training row may say one of them, whoever reads it aloud.

Corpora share sentences: many speakers of Common Voice read the same one, and its sentence lists hold all.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from speechllm.data import corpora
from speechllm.data.instruction_checks import plain

_NO_TEXT = {
    "lang",
    "source",
    "src",
    "kind",
    "written",
    "split",
    "set",
    "intent",
    "id",
    "category",
    "response",
}


def texts() -> frozenset[str]:
    """Every evaluation text of the shared sets, in the form that `plain` gives."""
    return _texts(corpora.data_folder())


@cache
def _texts(folder: Path) -> frozenset[str]:
    return frozenset(plain(text) for text in (*_spoken(folder), *_written(folder))) - {""}


def _spoken(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("speech/*/manifest.jsonl")):
        yield from (example.text for example in corpora.manifest(path, split="eval") if example.text)


def _written(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("texts/*/*eval.jsonl.gz")):
        for row in corpora.rows(path):
            yield from (text for name, text in row.items() if isinstance(text, str) and name not in _NO_TEXT)
            yield from row.get("alts", [])
