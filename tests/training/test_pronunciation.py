"""The stage `pronounce`: a text encoder learns how letters are read."""

import json
from pathlib import Path

import pytest
import torch

from speechllm.errors import DataError
from speechllm.text_encoder import PhonemeHead, TextEncoder
from speechllm.training.loop import Schedule, fit
from speechllm.training.pronunciation import PronounceObjective, PronounceOptions, Pronouncer, Texts, errors
from speechllm.woven import labels, letters

# "c" is read by what follows it, "x" as two sounds, and "e" by its language.
READ = {"a": "a", "ca": "ka", "ce": "se", "xa": "ksa", "ac": "ak", "ace": "ase", "axe": "akse", "ae": "ae"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    for lang in ("en", "de"):
        rows = [
            {"lang": lang, "text": text, "phonemes": said.replace("e", "i") if lang == "en" else said}
            for text, said in READ.items()
        ]
        (tmp_path / f"{lang}.jsonl").write_text("\n".join(map(json.dumps, rows * 10)))
    return tuple(str(tmp_path / f"{lang}.jsonl") for lang in ("en", "de"))


def test_it_learns_to_read_in_context_and_language(files: tuple[str, ...], tmp_path: Path) -> None:
    texts = Texts(PronounceOptions(Schedule(150, lr=1e-2, warmup=5, log_every=50), files, batch=16, kept_out=8))
    assert texts.signs == ["a", "e", "i", "k", "s"]
    torch.manual_seed(0)
    module = Pronouncer(TextEncoder(16, 16, layers=2), PhonemeHead(16, len(texts.signs)))
    fit(PronounceObjective(module, texts), texts.options.schedule, tmp_path / "run")
    assert errors(module, texts) == {"en": 0.0, "de": 0.0}
    torch.nn.init.zeros_(module.head.project.weight)
    torch.nn.init.zeros_(module.head.project.bias)
    assert errors(module, texts) == {"en": 100.0, "de": 100.0}  # blanks alone: every phoneme is lacking


def test_what_is_kept_out_is_in_no_batch(tmp_path: Path) -> None:
    rows = [{"lang": "en", "text": letter, "phonemes": "a"} for letter in "abcdefghijklmnopqrstuvwxyz"]
    (tmp_path / "en.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = Texts(PronounceOptions(Schedule(1), (str(tmp_path / "en.jsonl"),), kept_out=20))
    drawn = {tuple(row.tolist()) for number in range(20) for row in texts.batch(number, 6).labels}
    kept = {tuple(labels(row["text"])) for row in texts.kept_out[0]}
    assert len(drawn) == 6 and len(kept) == 20 and not drawn & kept


def test_a_batch_has_one_content_and_both_languages(files: tuple[str, ...]) -> None:
    texts = Texts(PronounceOptions(Schedule(1), files, kept_out=8))
    one, again = texts.batch(3, 6), texts.batch(3, 6)
    assert torch.equal(one.labels, again.labels) and torch.equal(one.phonemes, again.phonemes)
    assert len(one.languages.unique()) == 2
    first = one.labels[0, : one.lengths[0]].tolist()
    assert first in [labels(letters(text)) for text in READ]


def test_files_without_phonemes_are_refused(tmp_path: Path) -> None:
    for content in ("", '{"lang": "en", "text": "a"}'):
        (tmp_path / "a.jsonl").write_text(content)
        with pytest.raises(DataError, match="phonemes"):
            Texts(PronounceOptions(Schedule(1), (str(tmp_path / "a.jsonl"),)))


def test_marks_are_the_signs_that_are_no_sounds(tmp_path: Path) -> None:
    rows = [{"lang": "fr", "text": "encore du thé", "phonemes": "ɑ̃kˈɔːʁ dy te"}] * 30
    (tmp_path / "fr.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = Texts(PronounceOptions(Schedule(1), (str(tmp_path / "fr.jsonl"),), kept_out=2))
    assert {texts.signs[mark - 1] for mark in texts.marks} == {" ", "ˈ", "ː", "\u0303"}
