"""Texts with phonemes: what is kept of them, and that missing tools are named."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from speechllm.data import pronunciation
from speechllm.errors import DataError


class Spoken:
    """A pronouncer whose phonemes are the text with marks, punctuation and a digit."""

    def __init__(self) -> None:
        word = SimpleNamespace(d={"aardvark": "", "Zimmer": "", "o'clock": "", "zebra": "", "b": ""})
        self.lexicon = SimpleNamespace(golds=word, silvers=SimpleNamespace(d={"yeti": ""}))

    def __call__(self, text: str) -> str:
        return f"ˈ{text.lower()}, ɔ̃ː-1!"


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "hibari.g2p", SimpleNamespace(G2P=Spoken))
    texts = ["Tom sat.", "He is 7.", "It went on."]
    monkeypatch.setattr(pronunciation, "sentences", lambda count, lang, seed: texts[:count])


def test_sentences_and_words_are_written_with_their_phonemes(spoken: None, tmp_path: Path) -> None:
    out = tmp_path / "new" / "en.jsonl"
    assert pronunciation.main(["--out", str(out), "--sentences", "3"]) == 0
    rows = {row["text"]: row["phonemes"] for row in map(json.loads, out.read_text("utf-8").splitlines())}
    words = next(text for text in rows if "yeti" in text)
    assert sorted(words.split()) == ["aardvark", "yeti", "zebra"]
    assert rows.keys() == {"Tom sat.", "It went on.", words}
    assert rows["Tom sat."] == "ˈtom sat ɔ̃ː"


def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="not of xx"):
        next(pronunciation.pronounced("xx", 1))
    monkeypatch.setitem(sys.modules, "hibari.g2p", None)
    with pytest.raises(DataError, match="pip install"):
        next(pronunciation.pronounced("en", 1))
