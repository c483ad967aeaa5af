"""What the commands do beside answering: list tasks, evaluate, fetch weights, train, and tell how far they are."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from demos import CLIPS
from speechllm import commands, tasks
from speechllm.assistant import Answer
from speechllm.cli import main
from speechllm.evaluation.metrics import METRICS
from tests.test_cli import CLIP, FakeAssistant, fake

__all__ = ["fake"]


def test_progress_of_a_long_recording(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(commands, "SHOWN_EVERY", 0.0)
    progress = commands.Progress("talk.ogg", CLIP)
    progress(30.0, 30.0)
    assert capsys.readouterr().err == "", "a short recording needs none"
    monkeypatch.setattr(commands, "_declared_seconds", lambda _: 600.0)
    progress(125.0, 150.0)
    progress.clear()
    assert capsys.readouterr() == ("", "talk.ogg: heard 2:05 of 10:00\n")


def test_tasks_lists_every_task_with_a_command_that_is_right(
    fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in tasks.names():
        assert any(line.startswith(f"{name}: ") for line in lines)
        for slot in tasks.load(name).slots:
            assert any(line.split()[:1] == [slot] for line in lines)
    examples = [shlex.split(line.strip()[2:]) for line in lines if line.strip().startswith("$ speechllm")]
    assert {example[2] for example in examples} == set(tasks.names())
    for example in examples:
        assert main([CLIP if part == "clip.ogg" else part for part in example[1:]]) == 0


def test_tasks_by_name_number_the_wordings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "translate"]) == 0
    said = capsys.readouterr().out
    second = tasks.load("translate").wordings({"target": "German"})[1]
    assert any(line.split(maxsplit=2) == ["--wording", "1", second] for line in said.splitlines())


def test_evaluate_scores_prints_and_saves(
    fake: type[FakeAssistant],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    rows = [json.loads(line) for line in (CLIPS / "manifest.jsonl").read_text("utf-8").splitlines()]
    said = {row["audio"]: row["text"] for row in rows}
    asked: list[dict[str, Any]] = []

    def run(self: FakeAssistant, task: str, audio: Any = None, **options: Any) -> Answer:
        asked.append(options)
        return Answer(said[Path(audio).name], task, "the prompt")

    monkeypatch.setattr(FakeAssistant, "run", run)
    out = tmp_path / "report.json"
    command = ["evaluate", "transcribe", str(CLIPS / "manifest.jsonl"), "--lang", "German", "--reader", "ctc"]
    assert main([*command, "--json", str(out)]) == 0
    report = json.loads(out.read_text("utf-8"))
    assert report["n"] == 1
    assert report["metrics"]["wer"] == 0.0
    assert report["samples"][0]["answer"] == said["de_zug.ogg"]
    assert "wer" in capsys.readouterr().out
    assert asked == [{"language": "German", "reader": "ctc"}]
    assert main(["evaluate", "transcribe", str(CLIPS / "manifest.jsonl"), "--limit", "2"]) == 0
    assert len(asked) == 3
    assert set(report["metrics"]) <= set(METRICS)


@pytest.mark.parametrize("arguments", [["--lang", "ru"], ["--split", "eval"], ["--limit", "0"]])
def test_evaluate_without_rows(
    arguments: list[str], fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "transcribe", str(CLIPS / "manifest.jsonl"), *arguments]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not fake.made


def test_evaluate_where_every_row_fails(
    fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"audio": "gone.wav", "text": "a"}\n')
    assert main(["evaluate", "transcribe", str(data)]) == 1
    assert "gone.wav" in capsys.readouterr().out


def test_weights_prints_folders(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["weights", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"
    assert main(["weights", str(tmp_path / "gone"), str(tmp_path)]) == 1
    out, error = capsys.readouterr()
    assert out == f"{tmp_path}\n"
    assert error.count("\n") == 1
    assert main(["weights"]) == 0
    assert "whisper-base" in capsys.readouterr().out.split()


def test_train_hands_the_recipe_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from speechllm.training import recipe

    given: list[Path] = []
    monkeypatch.setattr(recipe, "run", given.append)
    assert main(["train", "recipes/mine.yaml"]) == 0
    assert given == [Path("recipes/mine.yaml")]
    monkeypatch.undo()
    assert main(["train", "no/such/recipe.yaml"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
