"""The mixture: its rows, their shares, repeatability, and that evaluation texts stay out."""

import json
from collections import Counter
from pathlib import Path

import pytest

from speechllm import prompts, tasks
from speechllm.data import mixture
from speechllm.data.instructions import OPERATIONS
from speechllm.data.mixture import MixtureSpec, build
from speechllm.errors import DataError


@pytest.fixture
def rows(small_data):
    return list(build(MixtureSpec(rows=3000, seed=1)))


def test_rows_are_whole(rows):
    for row in rows:
        task = tasks.load(row["task"])
        assert row["text"]
        assert row["answer"]
        assert row["instruction"]
        assert set(task.values(row["slots"])) == set(row["slots"])
        assert len(row["text"].split()) <= mixture.LONGEST + 5
        assert row.get("said") != row["text"]


def test_shares_are_those_asked_for(rows):
    counts = Counter(row["task"] for row in rows)
    for name, share in mixture.SHARES.items():
        assert counts[name] / len(rows) == pytest.approx(share, abs=0.03)


def test_instructions_are_training_wordings_only(rows):
    held_out = {
        wording.lower()
        for path in prompts.data_folder("prompts").rglob("*.txt")
        for wording in prompts.load(path).held_out
        if wording != "{instruction}"
    }
    said = {row["instruction"].lower() for row in rows}
    assert not said & held_out
    for row in rows:
        if row["task"] in ("transcribe", "translate", "answer"):
            task = tasks.load(row["task"])
            fitting = task.wordings(row["slots"])
            assert row["instruction"] in {prompts.fill(w, task.values(row["slots"])) for w in fitting}


def test_every_operation_and_language_occurs(rows):
    assert {row["operation"] for row in rows if row["task"] == "follow"} == set(OPERATIONS)
    assert {row["lang"] for row in rows if row["task"] == "transcribe"} == set(mixture.LANG_WEIGHTS)


def test_no_evaluation_text_is_trained_on(rows):
    everything = json.dumps(rows).lower()
    assert "never train on this" not in everything
    assert "an eval sentence" not in everything


def test_transcripts_are_nearly_always_copied(rows):
    transcripts = [row for row in rows if row["task"] == "transcribe"]
    assert all(row["answer"] == row.get("said", row["text"]) for row in transcripts)
    copied = sum("said" not in row for row in transcripts) / len(transcripts)
    assert 0.75 < copied < 0.95


def test_about_half_of_the_translations_are_misread(rows):
    translations = [row for row in rows if row["task"] == "translate" and len(row["text"].split()) > 3]
    assert 0.35 < sum("said" in row for row in translations) / len(translations) < 0.6


def test_same_seed_same_rows(small_data):
    first, again, other = (list(build(MixtureSpec(rows=50, seed=seed))) for seed in (1, 1, 2))
    assert first == again != other


def test_dev_texts_are_not_trained_on(small_data, monkeypatch):
    # 1 text in 64 is dev: make it 1 in 2, so that this small folder has some of both.
    monkeypatch.setattr(mixture, "_DEV_BELOW", 128)
    pools = [mixture.load(MixtureSpec(is_dev=is_dev)) for is_dev in (False, True)]
    for lang in ("en", "de"):
        train, dev = (set(pool.follow.sentences[lang]) for pool in pools)
        assert train
        assert not train & dev


def test_clips_are_carried_on_request(small_data):
    rows = list(build(MixtureSpec(rows=400, audio=True)))
    clips = [row["audio"] for row in rows if "audio" in row]
    assert {Path(path).name for path in clips if path.endswith(".ogg")} == {"3.ogg"}  # 1: no capitals; 2: eval
    assert all(Path(path).is_file() for path in clips if path.endswith(".flac"))
    assert any(row["task"] == "translate" for row in rows if "audio" in row)
    assert not any("audio" in row for row in build(MixtureSpec(rows=100)))


def test_missing_corpus_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="sentences"):
        next(build(MixtureSpec(rows=1)))


def test_written_file_holds_the_rows(small_data, tmp_path):
    out = tmp_path / "rows.jsonl"
    assert mixture.main(["--out", str(out), "--rows", "20", "--seed", "3"]) == 0
    written = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert written == list(build(MixtureSpec(rows=20, seed=3)))
