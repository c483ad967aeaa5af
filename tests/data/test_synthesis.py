"""Sentences for a synthesiser: which, and that a broken-off run goes on."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from speechllm.data import corpora, reserved, synthesis
from speechllm.data.instruction_checks import plain
from speechllm.errors import DataError


class Voice:
    sample_rate = 24_000

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, text: str, speed: float, seed: int) -> np.ndarray:
        self.said.append(text)
        return np.full(round(24_000 * 0.1 * len(text.split()) / speed), 0.1, np.float32)


@pytest.fixture
def voice(monkeypatch: pytest.MonkeyPatch) -> Voice:
    made = Voice()
    monkeypatch.setitem(sys.modules, "hibari", SimpleNamespace(Hibari=lambda: made))
    return made


@pytest.mark.parametrize("lang", ["en", "de", "es", "fr"])
def test_sentences_are_fit_to_speak_and_reserved_for_nobody(lang: str) -> None:
    found = synthesis.sentences(500, lang)
    assert len(set(found)) == 500 and found == synthesis.sentences(500, lang)
    assert all(synthesis.SHORTEST <= len(text.split()) <= synthesis.LONGEST for text in found)
    assert reserved.texts().isdisjoint(map(plain, found))


def test_rare_sentences_bring_two_new_words_each() -> None:
    known: set[str] = set()
    found = synthesis.sentences(300, rare=True)
    for text in found:
        words = set(re.findall(r"\w+", text.lower()))
        assert len(words - known) >= 2, text
        known |= words
    plainly = synthesis.sentences(300)
    assert len(known) > 1.2 * len({word for text in plainly for word in re.findall(r"\w+", text.lower())})


def test_a_run_goes_on_where_it_stopped(voice: Voice, tmp_path) -> None:
    texts = ["One two three.", "Four five six seven.", "Eight nine ten."]
    synthesis.speak(texts[:2], tmp_path)
    synthesis.speak(texts, tmp_path)
    assert voice.said == texts
    rows = list(corpora.manifest(tmp_path))
    assert [row.text for row in rows] == texts
    assert all(row.audio.exists() and row.seconds and row.split == "train" for row in rows)
    speeds = [len(row.text.split()) / (row.seconds or 1) for row in rows]
    assert all(8.9 < speed < 11.6 for speed in speeds) and len(set(speeds)) == 3
    assert json.loads((tmp_path / "manifest.jsonl").read_text().splitlines()[0])["speaker"] == "hibari heart"


def test_without_the_synthesiser_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(DataError, match="pip install"):
        synthesis.speak(["One two three."], tmp_path)
