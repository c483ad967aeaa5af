"""How answers are measured, as the field does it, each with a signature that says how.

Word and character error rates follow Whisper (Radford et al. 2022, appendix C): its English normaliser
with its spelling map for English, its basic normaliser elsewhere; errors are summed over the set. BLEU
and chrF are sacrebleu's (Post 2018). Answers are compared after SQuAD's normalisation (Rajpurkar et al.
2016). `english_spelling.json` is the map of openai/whisper (MIT).
"""

import json
import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from speechllm.data.instructions import followed
from speechllm.errors import TaskError


@dataclass(frozen=True)
class Result:
    """One answer beside what it should be."""

    answer: str
    references: tuple[str, ...]  # right answers, the first is the main one
    lang: str = "en"  # ISO 639-1 code of the answer's language
    row: Mapping[str, Any] = field(default_factory=dict)  # the manifest's row


@dataclass(frozen=True)
class Score:
    """A metric's value in the unit that a table prints (% or 0-100), and how it was computed."""

    value: float
    signature: str


@cache
def _normaliser(is_english: bool) -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if not is_english:
        return BasicTextNormalizer()
    spelling = json.loads(Path(__file__).with_name("english_spelling.json").read_text(encoding="utf-8"))
    return EnglishTextNormalizer(spelling)


def normalised(text: str, lang: str) -> str:
    """The text as Whisper's normaliser for the language writes it."""
    return " ".join(_normaliser(lang == "en")(text).split())


def wer(results: Sequence[Result]) -> Score:
    """Word error rate in %: edits over the words of all references."""
    return _error_rate(results, str.split, "wer")


def cer(results: Sequence[Result]) -> Score:
    """Character error rate in %: edits over the characters (spaces too) of all references."""
    return _error_rate(results, list, "cer")


def _error_rate(results: Sequence[Result], units: Callable[[str], list[str]], name: str) -> Score:
    errors = total = 0
    for result in results:
        reference = units(normalised(result.references[0], result.lang))
        errors += Levenshtein.distance(reference, units(normalised(result.answer, result.lang)))
        total += len(reference)
    english = any(result.lang == "en" for result in results)
    others = any(result.lang != "en" for result in results)
    kinds = "+".join(["whisper-english"] * english + ["whisper-basic"] * others) or "none"
    return Score(100.0 * errors / max(total, 1), f"{name}|normaliser:{kinds}|sum of edits / sum of reference")


def bleu(results: Sequence[Result]) -> Score:
    """BLEU of the set, 0-100, by sacrebleu with its default tokeniser."""
    from sacrebleu.metrics.bleu import BLEU

    return _sacrebleu(results, BLEU())


def chrf(results: Sequence[Result]) -> Score:
    """chrF2 of the set, 0-100, by sacrebleu."""
    from sacrebleu.metrics.chrf import CHRF

    return _sacrebleu(results, CHRF())


def _sacrebleu(results: Sequence[Result], metric: Any) -> Score:
    most = max((len(result.references) for result in results), default=1)
    references = [
        [result.references[place] if place < len(result.references) else None for result in results]
        for place in range(most)
    ]
    answers = [result.answer for result in results]
    value = metric.corpus_score(answers, references).score if results else 0.0
    return Score(value, str(metric.get_signature()) if results else "no rows")


def squad_normalised(text: str) -> str:
    """Lower case, without punctuation and English articles, single spaces (SQuAD's evaluation script)."""
    kept = "".join(letter for letter in text.lower() if not _is_punctuation(letter))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def _is_punctuation(letter: str) -> bool:
    return letter in string.punctuation or unicodedata.category(letter).startswith("P")


def matches_exactly(answer: str, aliases: Sequence[str]) -> bool:
    """Whether the answer is one of the aliases, after SQuAD's normalisation."""
    return squad_normalised(answer) in {squad_normalised(alias) for alias in aliases}


def holds_alias(answer: str, aliases: Sequence[str]) -> bool:
    """Whether the answer holds one of the aliases as whole words, after SQuAD's normalisation."""
    padded = f" {squad_normalised(answer)} "
    return any(f" {alias} " in padded for alias in map(squad_normalised, aliases) if alias)


def exact(results: Sequence[Result]) -> Score:
    """Share in % of the answers that are one of the right answers."""
    return _share(results, lambda result: matches_exactly(result.answer, result.references), "exact|squad")


def alias(results: Sequence[Result]) -> Score:
    """Share in % of the answers that hold one of the right answers as whole words."""
    return _share(results, lambda result: holds_alias(result.answer, result.references), "alias|squad|whole words")


def follows(results: Sequence[Result]) -> Score:
    """Share in % of the answers that follow the instruction.

    A row with an `operation` (and its `arguments`) is checked on form, recognition forgiven; any other
    row follows when the answer is the right one to the letter.
    """
    return _share(results, _follows, "followed|form strict, character error rate <= 0.2")


def _follows(result: Result) -> bool:
    operation = result.row.get("operation")
    if operation is None:
        return result.answer.strip() in {reference.strip() for reference in result.references}
    text, arguments = str(result.row.get("text", "")), result.row.get("arguments") or {}
    return followed(operation, text, result.answer, arguments, result.references[0])


def _share(results: Sequence[Result], is_right: Callable[[Result], bool], signature: str) -> Score:
    right = sum(map(is_right, results))
    return Score(100.0 * right / max(len(results), 1), signature)


def without_accents(text: str) -> str:
    """The text without accents, to compare with references that lack them."""
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))


METRICS: dict[str, Callable[[Sequence[Result]], Score]] = {
    "wer": wer, "cer": cer, "bleu": bleu, "chrf": chrf, "exact": exact, "alias": alias, "followed": follows,
}  # fmt: skip


def check(names: Sequence[str]) -> None:
    """Raise TaskError for a name that is no metric."""
    for name in names:
        if name not in METRICS:
            raise TaskError(f"unknown metric {name!r}: use {', '.join(METRICS)}")


def score(name: str, results: Sequence[Result]) -> Score:
    """The metric of that name. Raises TaskError for a name that is not known."""
    check([name])
    return METRICS[name](results)
