"""Output rows: the pieces of the texts there are, and a word about those that are missing."""

import gzip
import json
import logging
from pathlib import Path

import pytest

from speechllm.language.rows import TEXTS, used_rows
from speechllm.model import SpeechLLM


def test_rows_of_the_texts_and_a_warning_for_each_that_is_missing(
    tiny: SpeechLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "texts" / f"{TEXTS[0]}.jsonl.gz"
    path.parent.mkdir(parents=True)
    row = {"text": "Guten Tag.", "answers": ["Good day."]}
    with gzip.open(path, "wt") as file:
        file.write(json.dumps(row))
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path))
    with caplog.at_level(logging.WARNING, "speechllm"):
        rows = used_rows(tiny.vocabulary).tolist()
    assert rows == sorted(set(rows))
    assert {*tiny.vocabulary.encode("Guten Tag."), *tiny.vocabulary.encode("Good day.")} <= set(rows)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(TEXTS) - 1
    for name, line in zip(TEXTS[1:], said, strict=True):
        assert name in line
        assert "\n" not in line
