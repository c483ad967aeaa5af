"""Checkable instructions about real clips: held-out wordings, evaluation clips only, answers that follow."""

import json
from collections import Counter

import pytest

from speechllm import prompts, tasks
from speechllm.data.instructions import OPERATIONS, TRANSLATING
from speechllm.evaluation import instruction_items, metrics, runner

TEXTS = [
    "HE WALKED TO THE OLD HOUSE BY THE SEA", "nobody wanted to read that letter",
    "They saw him near the river, alone.", "she waited for twenty three days",
    "the captain shook his head and the crew left",
]  # fmt: skip
SENTENCE_OPERATIONS = {name for name, operation in OPERATIONS.items() if operation.sentences > 1} | set(TRANSLATING)


@pytest.fixture
def data(tmp_path, monkeypatch):
    for name in instruction_items.SETS:
        folder = tmp_path / "speech" / name
        folder.mkdir(parents=True)
        rows = [
            {"audio": f"{split}{i}.ogg", "text": text, "lang": "en", "split": split, "duration": 3.0}
            for split in ("train", "eval")
            for i, text in enumerate(TEXTS)
        ]
        for row in rows:
            (folder / row["audio"]).touch()
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path))


def test_items_are_made_of_evaluation_clips_in_held_out_words(data):
    items = list(instruction_items.items(count=120, phone=False))
    assert len(items) == 120
    for item in items:
        assert "eval" in item["audio"]
        wordings = OPERATIONS[item["operation"]].wordings(held_out=True)
        assert item["instruction"] in {
            prompts.fill(w, item["arguments"]) for w in wordings if prompts.slots_of(w) <= set(item["arguments"])
        }
    counts = Counter(item["operation"] for item in items)
    assert set(counts) == set(OPERATIONS) - SENTENCE_OPERATIONS
    digits = next(item for item in items if item["operation"] == "numbers_to_digits")
    assert digits["answer"] == "she waited for 23 days"


def test_items_repeat_by_seed(data):
    first, again, other = (list(instruction_items.items(30, seed, phone=False)) for seed in (0, 0, 1))
    assert first == again != other


def test_right_answers_follow_and_plain_transcripts_do_not(data, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in instruction_items.items(120, phone=False)))
    rows = list(runner.read(path, tasks.load("follow")))
    right = [metrics.Result(row.references[0], row.references, row.lang, row.fields) for row in rows]
    plain = [metrics.Result(row.fields["text"], row.references, row.lang, row.fields) for row in rows]
    assert metrics.score("followed", right).value == 100.0
    assert metrics.score("followed", plain).value < 25.0
