"""The command line: what it reads, prints and refuses, its exit codes; and once, all of it with pocket."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

import speechllm.assistant
from demos import CLIPS, clips
from speechllm.assistant import Answer, Stream
from speechllm.audio.decode import load
from speechllm.cli import main
from speechllm.errors import AudioError
from speechllm.reading import Word

ROOT = Path(__file__).parents[1]
CLIP, OTHER = str(CLIPS / "en_jazz.ogg"), str(CLIPS / "de_zug.ogg")


class FakeAssistant:
    """Answers with the task, the seconds heard and the slots, so that a test sees what reached it."""

    made: ClassVar[list[FakeAssistant]] = []
    fails: ClassVar[Exception | KeyboardInterrupt | None] = None

    def __init__(self, model: str = "pocket", device: str | None = None, limits: Any = None) -> None:
        self.model, self.device, self.limits = model, device, limits
        FakeAssistant.made.append(self)

    def run(self, task: str, audio: Any = None, *, progress: Any = None, **options: Any) -> Answer:
        if FakeAssistant.fails and audio == CLIP:
            raise FakeAssistant.fails
        seconds = 0.0 if audio is None else load(audio).seconds
        if progress:
            progress(seconds, seconds)
        given = " ".join(f"{name}={value}" for name, value in options.items() if value is not None)
        words = (Word("Simkins", 0.123456, 0.5, 0.9), Word("café", 0.5, 0.75, 0.8))
        text = f"{task} {seconds:.1f} {given}"
        return Answer(text, task, "the prompt", words, "en", "the reading", "stop", {"total": 0.123456}, seconds)

    def stream(self, task: str, audio: Any = None, **options: Any) -> Stream:
        answer = self.run(task, audio, **options)
        return Stream(iter([*(f"{word} " for word in answer.text.split()), answer]))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeAssistant]:
    FakeAssistant.made, FakeAssistant.fails = [], None
    monkeypatch.setattr(speechllm.assistant, "Assistant", FakeAssistant)
    return FakeAssistant


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "speechllm.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=600, check=False, **options)


# Help and usage


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from speechllm.cli import main; assert main(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'yaml', 'soxr', 'soundfile'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "speechllm run transcribe talk.ogg" in done.stdout


@pytest.mark.parametrize("command", ["run", "ask", "tasks", "evaluate", "train", "weights"])
def test_each_command_teaches_by_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "example" in said
    assert f"  speechllm {command}" in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"speechllm {speechllm.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["sing"], "sing"),
        (["run"], "TASK"),
        (["run", "transcribe"], "AUDIO"),
        (["run", "sing", CLIP], "'sing'"),
        (["run", "translate", CLIP], "'target'"),
        (["run", "translate", CLIP, "--set", "target"], "SLOT=VALUE"),
        (["run", "translate", CLIP, "--set", "target=Klingon"], "'Klingon'"),
        (["run", "transcribe", CLIP, "--set", "colour=red"], "'colour'"),
        (["run", "transcribe", CLIP, "--lang", "Klingon"], "'Klingon'"),
        (["run", "translate", CLIP, "--set", "target=de", "--set", "source=fr", "--lang", "en"], "--lang"),
        (["run", "translate", CLIP, "--set", "target=de", "--set", "target=fr"], "twice"),
        (["run", "translate", CLIP, "--set", "target=de", "--times"], "--times"),
        (["run", "transcribe", CLIP, "--set", "language=de", "--lang", "fr"], "--set language="),
        (["run", "follow", CLIP, "--set", "instruction=x", "--set", "language=de", "--lang", "fr"], "--set language="),
        (["run", "transcribe", "-", "-"], "once"),
        (["ask", CLIP, "What?", "--times"], "--times"),
        (["tasks", "--model", "pocket"], "--model"),
        (["train", "runs/x", "--device", "cpu"], "--device"),
        (["weights", ""], "empty"),
        (["weights", "pocket", " "], "empty"),
        (["run", "transcribe", CLIP, "--wording", "99"], "99"),
        (["run", "transcribe", CLIP, "--wording", "-1"], "-1"),
        (["run", "transcribe", CLIP, "--json", "--stream"], "--stream"),
        (["run", "translate", CLIP, "--set", "target=de", "--reader", "ctc"], "ctc"),
        (["run", "transcribe", CLIP, "--max-seconds", "no"], "'no'"),
        (["ask", CLIP], "QUESTION"),
        (["ask", CLIP, " "], "'question'"),
        (["tasks", "sing"], "'sing'"),
        (["evaluate", "sing", "data.jsonl"], "'sing'"),
        (["evaluate", "transcribe", "data.jsonl", "--json", "no/such/folder/report.json"], "report.json"),
        (["evaluate", "translate", "data.jsonl", "--reader", "ctc"], "ctc"),
        (["ask", CLIP, "What?", "--device", "tpu"], "'tpu'"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("speechllm")
    assert said in error
    assert not fake.made, "no model is loaded for a wrong command"


# run, ask


def test_run_prints_the_answer_alone(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "translate", CLIP, "--set", "target=German", "--lang", "English", "--wording", "1"]
    assert main([*arguments, "--device", "cpu", "--model", "mine"]) == 0
    seconds = load(CLIP).seconds
    expected = f"translate {seconds:.1f} target=German source=English wording=1 reader=attention\n"
    assert capsys.readouterr().out == expected
    assert [(made.model, made.device) for made in fake.made] == [("mine", "cpu")]


@pytest.mark.parametrize("order", [["--debug", "run"], ["run", "--debug"]])
def test_debug_before_and_after_the_command(order: list[str], fake: type[FakeAssistant]) -> None:
    assert main([*order, "transcribe", CLIP, "--model", "mine"]) == 0
    assert fake.made[0].model == "mine"


def test_a_value_may_hold_an_equals_sign(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "follow", CLIP, "--set", "instruction=Write a = b."]) == 0
    assert "instruction=Write a = b. " in capsys.readouterr().out


def test_ask_asks_the_question(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", CLIP, "Which music?"]) == 0
    assert capsys.readouterr().out.endswith("question=Which music? reader=attention\n")


@pytest.mark.parametrize("request_", [["ask", CLIP, "Who?"], ["run", "answer", CLIP], ["run", "translate", CLIP]])
@pytest.mark.parametrize("lang", ["de", "de,fr"])
def test_every_task_is_told_the_spoken_language(
    request_: list[str], lang: str, fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    target = ["--set", "target=en"] if "translate" in request_ else []
    assert main([*request_, *target, "--lang", lang]) == 0
    name = "source" if target and lang == "de" else "language"
    assert f" {name}={lang} " in capsys.readouterr().out


def test_a_damaged_recording_is_told_once_like_every_message(
    fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import soundfile

    path = tmp_path / "cut.flac"
    soundfile.write(path, load(CLIP).samples, 16_000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4_000] = bytes(4_000)
    path.write_bytes(data)
    assert main(["run", "transcribe", str(path)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"speechllm: {path}: damaged")


def test_several_recordings_one_of_them_broken(
    fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = tmp_path / "notes.wav"
    broken.write_text("these are notes")
    assert main(["run", "transcribe", CLIP, str(broken), str(tmp_path / "gone.wav"), OTHER]) == 1
    out, error = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [CLIP, OTHER]
    first, second = error.splitlines()
    assert first.startswith("speechllm: ")
    assert str(broken) in first
    assert "gone.wav" in second
    assert len(fake.made) == 1


def test_recordings_that_fail_are_told_before_a_model_loads(
    fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty.wav").touch()
    began = time.process_time()
    assert main(["run", "transcribe", str(tmp_path / "empty.wav"), str(tmp_path)]) == 1
    assert time.process_time() - began < 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 2
    assert not fake.made


@pytest.mark.parametrize("shown", [[], ["--json"], ["--stream"], ["--times"]])
def test_an_answer_that_fails_leaves_the_others(
    shown: list[str], fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fails = AudioError("it ends in the middle")
    assert main(["run", "transcribe", CLIP, OTHER, *shown]) == 1
    out, error = capsys.readouterr()
    assert error == f"speechllm: {CLIP}: it ends in the middle\n"
    assert OTHER in out


def test_an_unforeseen_error_is_one_line_unless_debug(
    fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fails = RuntimeError("first\nsecond")
    assert main(["run", "transcribe", CLIP]) == 1
    assert capsys.readouterr().err == f"speechllm: {CLIP}: RuntimeError: first second (--debug shows where)\n"
    with pytest.raises(RuntimeError):
        main(["run", "transcribe", CLIP, "--debug"])


def test_interrupted_is_quiet(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    fake.fails = KeyboardInterrupt()
    assert main(["run", "transcribe", CLIP]) == 130
    assert capsys.readouterr().err == ""


def test_json_is_one_object_a_recording(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "transcribe", CLIP, OTHER, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["audio"] for row in rows] == [CLIP, OTHER]
    assert rows[0]["words"][0] == {"text": "Simkins", "start": 0.1235, "end": 0.5, "confidence": 0.9}
    assert rows[0]["timings"] == {"total": 0.1235}
    assert rows[0]["seconds"] == pytest.approx(load(CLIP).seconds, abs=1e-4)


def test_stream_gives_the_same_text(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "transcribe", CLIP]) == 0
    whole = capsys.readouterr().out
    assert main(["run", "transcribe", CLIP, "--stream"]) == 0
    assert capsys.readouterr().out.split() == whole.split()


def test_times_are_a_table(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "transcribe", CLIP, "--times"]) == 0
    assert capsys.readouterr().out == "0.12\t0.50\tSimkins\n0.50\t0.75\tcafé\n"
    assert main(["run", "transcribe", CLIP, OTHER, "--times"]) == 0
    assert {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()} == {CLIP, OTHER}


class Input:
    """A standard input that holds bytes."""

    def __init__(self, content: bytes, terminal: bool = False) -> None:
        self.buffer, self.terminal = io.BytesIO(content), terminal

    def isatty(self) -> bool:
        return self.terminal


def test_a_dash_reads_standard_input(
    fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Input(Path(CLIP).read_bytes()))
    assert main(["run", "transcribe", "-"]) == 0
    assert capsys.readouterr().out.startswith(f"transcribe {load(CLIP).seconds:.1f} ")
    monkeypatch.setattr(sys, "stdin", Input(b"no audio"))
    assert main(["run", "transcribe", "-"]) == 1
    assert capsys.readouterr().err.startswith("speechllm: standard input: ")
    monkeypatch.setattr(sys, "stdin", Input(b""))
    assert main(["run", "transcribe", "-"]) == 1
    assert capsys.readouterr().err == "speechllm: nothing came in on standard input\n"
    monkeypatch.setattr(sys, "stdin", Input(b"", terminal=True))
    assert main(["run", "transcribe", "-"]) == 2


def test_the_longest_recording_is_a_setting(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "transcribe", CLIP, "--max-seconds", "1"]) == 1
    assert not fake.made
    assert main(["run", "transcribe", CLIP, "--max-seconds", "7200"]) == 0
    assert fake.made[0].limits.seconds == 7200


def test_a_task_of_ones_own(fake: type[FakeAssistant], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Say {what}.")
    yaml = tmp_path / "mine.yaml"
    yaml.write_text("{name: mine, prompt: mine.txt, target: text, slots: {what: {required: true}}}")
    assert main(["run", str(yaml), CLIP, "--set", "what=it"]) == 0
    assert capsys.readouterr().out.startswith(f"{yaml} ")
    assert main(["run", str(yaml), CLIP]) == 2


# Processes of their own


def test_a_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "speechllm.cli", "tasks"]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_without_the_letters_stops_nothing() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = process("run", "transcribe", "no-such-é.wav", env=environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_pocket_hears_the_bundled_clips(tmp_path: Path) -> None:
    """All of it, as a person runs it: the real model, a clip in English, one in German, and a broken one."""
    from speechllm.evaluation.metrics import Result, score

    broken = tmp_path / "broken.ogg"
    broken.write_bytes(b"OggS" + bytes(100))
    done = process("run", "transcribe", CLIP, str(broken), OTHER, "--json", "--device", "cpu")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("speechllm: ")] == [
        line for line in done.stderr.splitlines() if "broken.ogg" in line
    ]
    rows = {row["audio"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert set(rows) == {CLIP, OTHER}
    assert [rows[name]["language"] for name in (CLIP, OTHER)] == ["en", "de"]
    for name, lang in ((CLIP, "en"), (OTHER, "de")):
        row = rows[name]
        said = next(clip.text for clip in clips() if str(clip.audio) == name)
        assert score("wer", [Result(row["text"], (said,), lang, {})]).value <= 50
        assert row["words"], "words have times"
        starts = [word["start"] for word in row["words"]]
        assert starts == sorted(starts)
        assert all(0 <= word["start"] <= word["end"] <= row["seconds"] + 0.01 for word in row["words"])
