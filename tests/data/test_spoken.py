"""Rows from recordings alone: each task a manifest answers, noise as nothing, nothing of an evaluation."""

import json
from pathlib import Path

import pytest

from speechllm import prompts
from speechllm.data import spoken
from speechllm.errors import DataError, TaskError

CLIPS = [
    {
        "audio": "1.wav",
        "text": "SHE WALKED SLOWLY HOME",
        "lang": "en",
        "split": "train",
        "translation": {"de": "Sie ging langsam heim.", "fr": "Elle rentra lentement."},
    },
    {
        "audio": "2.wav",
        "text": "Where is it?",
        "lang": "en",
        "split": "train",
        "question": "What is asked?",
        "answers": ["where it is", "its place"],
    },
    {
        "audio": "3.wav",
        "text": "Das Fenster stand offen.",
        "lang": "de",
        "split": "train",
        "target": "English",
        "translation": "The window stood open.",
    },
    {"audio": "4.wav", "split": "train"},
    {"audio": "5.wav", "text": "Nobody trains on this.", "lang": "en", "split": "eval"},
    {"audio": "6.wav", "text": "NOBODY TRAINS ON THIS", "lang": "en", "split": "train"},
    {"audio": "7.wav", "text": None, "lang": "en", "split": "train"},
    {"audio": "8.wav", "text": "Too long.", "lang": "en", "split": "train", "duration": 31.0},
]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "speech" / "made"
    folder.mkdir(parents=True)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in CLIPS))
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path))
    return str(folder)


def answers(rows: list[dict], task: str) -> list[tuple[str, str]]:
    return [(Path(row["audio"]).name, row["answer"]) for row in rows if row["task"] == task]


def test_each_clip_teaches_what_its_manifest_answers(corpus: str) -> None:
    rows = spoken.rows(["made"], ["transcribe", "translate", "ask"])
    assert answers(rows, "transcribe") == [
        ("1.wav", "she walked slowly home"),
        ("2.wav", "Where is it?"),
        ("3.wav", "Das Fenster stand offen."),
        ("4.wav", ""),
    ]
    assert answers(rows, "translate") == [
        ("1.wav", "Sie ging langsam heim."),
        ("1.wav", "Elle rentra lentement."),
        ("3.wav", "The window stood open."),
    ]
    assert answers(rows, "ask") == [("2.wav", "where it is")]
    assert all("German" in row["instruction"] for row in rows if row["answer"].startswith("Sie"))
    assert rows == spoken.rows([corpus], ["transcribe", "translate", "ask"])


def test_instructions_are_training_wordings(corpus: str) -> None:
    held_out = {wording.lower() for wording in prompts.load("transcribe").held_out}
    seen = {row["instruction"].lower() for seed in range(30) for row in spoken.rows([corpus], ["transcribe"], seed)}
    assert len(seen) > 5
    assert not seen & held_out


def test_nothing_to_train_on_is_an_error(corpus: str) -> None:
    with pytest.raises(DataError, match="no recording of made"):
        spoken.rows(["made"], ["follow"])
    with pytest.raises(TaskError, match="no task"):
        spoken.rows(["made"], ["sing"])


def test_telephone_prompts_are_translated_into_each_other(
    unpacked_prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path / "none"))
    rows = spoken.rows(["asterisk"], ["translate"])
    assert rows
    for row in rows:
        assert row["answer"] != row["text"]
        assert Path(row["audio"]).suffix == ".flac"
