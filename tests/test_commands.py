"""What the commands do beside answering: list tasks, evaluate, fetch weights, train, and tell how far they are."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
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
    progress = commands.Progress("talk.ogg")
    progress(30.0, 30.0)
    assert capsys.readouterr().err == "", "a short recording needs none"
    progress(125.0, 600.0)
    progress(130.0, None)
    progress.clear()
    assert capsys.readouterr() == ("", "talk.ogg: heard 2:05 of 10:00\ntalk.ogg: heard 2:10\n")


@pytest.mark.parametrize("finish", commands.FINISHES)
def test_an_empty_or_cut_answer_says_why(
    finish: str, monkeypatch: pytest.MonkeyPatch, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake.run
    monkeypatch.setattr(fake, "run", lambda *args, **named: replace(run(*args, **named), finish=finish))
    assert main(["run", "transcribe", CLIP]) == 0
    assert capsys.readouterr().err == f"speechllm: {CLIP}: {commands.FINISHES[finish]}\n"


def test_evaluate_tells_the_spoken_language_of_every_task(
    tmp_path: Path, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"audio": CLIP, "lang": lang, "question": "What?", "answer": "x"} for lang in ("de", "tlh")]
    (tmp_path / "data.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, rows)), "utf-8")
    out = tmp_path / "report.json"
    assert main(["evaluate", "ask", str(tmp_path / "data.jsonl"), "--json", str(out)]) == 0
    said = [sample["answer"] for sample in json.loads(out.read_text())["samples"]]
    assert ["language=de" in answer for answer in said] == [True, False]


@pytest.mark.parametrize(
    "fields", [{"duration": "abc"}, {"duration": {"a": 1}}, {"duration": -5}, {"duration": True}, {"lang": 5}]
)
def test_a_wrong_field_of_a_row_is_known_before_anything_runs(
    fields: dict, tmp_path: Path, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"audio": CLIP, "text": "x"}, {"audio": CLIP, "text": "x", **fields}]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["evaluate", "transcribe", str(tmp_path / "data.jsonl")]) == 1
    error = capsys.readouterr().err
    assert f"data.jsonl, line 2: {next(iter(fields))}" in error
    assert len(error.splitlines()) == 1
    assert not fake.made


def test_rows_without_a_translation_are_left_out(
    tmp_path: Path, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"audio": CLIP, "lang": "en"}, {"audio": CLIP, "lang": "en", "translation": {"de": "Ja."}}]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["evaluate", "translate", str(tmp_path / "data.jsonl"), "--set", "target=German"]) == 0
    out, error = capsys.readouterr()
    assert "translate: 1 rows" in out
    assert error.endswith("data.jsonl: 1 rows without a 'translation' in the target language are left out\n")


def test_no_row_with_a_translation_is_one_line(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "translate", str(CLIPS / "manifest.jsonl"), "--set", "target=Czech"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "rows are without a 'translation'" in line
    assert not fake.made


def test_a_report_that_cannot_be_written_is_known_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"audio": CLIP, "text": "x"}))
    opened = Path.open

    def refuse(path: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        if mode == "a":
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, *given, **named)

    monkeypatch.setattr(Path, "open", refuse)
    out = tmp_path / "out.json"
    assert main(["evaluate", "transcribe", str(tmp_path / "data.jsonl"), "--json", str(out)]) == 1
    assert capsys.readouterr().err == f"speechllm: cannot write {out}: Permission denied\n"
    assert not fake.made
    assert not out.exists()


def test_the_table_is_shown_though_the_report_cannot_be_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"audio": CLIP, "text": "x"}))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    out = tmp_path / "out.json"
    assert main(["evaluate", "transcribe", str(tmp_path / "data.jsonl"), "--json", str(out)]) == 1
    said, error = capsys.readouterr()
    assert "wer" in said
    assert error == f"speechllm: cannot write {out}: No space left on device\n"


@pytest.mark.parametrize("shown", [[], ["--stream"], ["--json"]])
def test_silence_says_why_the_answer_is_empty(
    shown: list[str], monkeypatch: pytest.MonkeyPatch, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    silent = Answer("", "transcribe", "the prompt", finish="no speech")
    monkeypatch.setattr(fake, "run", lambda *_, **__: silent)
    assert main(["run", "transcribe", CLIP, *shown]) == 0
    assert capsys.readouterr().err == f"speechllm: {CLIP}: no speech was heard\n"


def test_a_wording_that_is_there_twice_is_listed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("Say it.\nSay it.\nTell me.\n")
    (tmp_path / "mine.yaml").write_text("{name: mine, prompt: mine.txt, target: text, examples: [{}]}")
    assert main(["tasks", str(tmp_path / "mine.yaml")]) == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines() if "--wording" in line]
    assert lines == [["--wording", "0", "Say it."], ["--wording", "2", "Tell me."]]


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


def test_evaluate_without_a_recording(
    fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"audio": "gone.wav", "text": "a"}\n')
    assert main(["evaluate", "transcribe", str(data)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.jsonl, line 1: there is no recording 'gone.wav'" in line
    assert not fake.made


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
