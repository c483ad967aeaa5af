"""The command line that speaks: what reaches the model, what is written where, and what is refused before it loads."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import soundfile

import speechllm.assistant
from demos import CLIPS
from speechllm.answer import Answer, Stream
from speechllm.audio.decode import load
from speechllm.audio.mark import mark
from speechllm.audio.save import COMMENT, FORMATS, Sound, tag
from speechllm.cli import main
from speechllm.errors import TaskError
from speechllm.testing import babble

CLIP, OTHER = str(CLIPS / "en_jazz.ogg"), str(CLIPS / "de_zug.ogg")
MARKED = mark(babble(4.0))


class FakeAssistant:
    """Says the same sound for everything but "fail", and remembers what it was asked."""

    made: ClassVar[list[FakeAssistant]] = []
    asked: ClassVar[list[dict[str, Any]]] = []
    finish: ClassVar[str] = "stop"

    def __init__(self, model: str = "pocket", device: str | None = None, limits: Any = None) -> None:
        self.model, self.device = model, device
        FakeAssistant.made.append(self)

    def run(self, task: str, audio: Any = None, *, progress: Any = None, **options: Any) -> Answer:
        given = {name: value for name, value in options.items() if value is not None}
        FakeAssistant.asked.append({"task": task, **given} | ({} if audio is None else {"audio": audio}))
        if options.get("text") == "fail":
            raise TaskError("it cannot be said")
        text = options.get("text", "an answer")
        sound = None if self.finish == "no speech" else Sound(MARKED.samples, MARKED.rate)
        times = {"total": 1.0} if sound is None else {"total": 1.0, "say": 0.5, "first_audio": 0.25}
        return Answer(text, task, "the prompt", finish=self.finish, timings=times, audio=sound)

    def stream(self, task: str, audio: Any = None, **options: Any) -> Stream:
        answer = self.run(task, audio, **options)
        sound = [] if answer.audio is None else [answer.audio]
        return Stream(iter([*(f"{word} " for word in answer.text.split()), *sound, answer]))


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeAssistant]:
    FakeAssistant.made, FakeAssistant.asked, FakeAssistant.finish = [], [], "stop"
    monkeypatch.setattr(speechllm.assistant, "Assistant", FakeAssistant)
    return FakeAssistant


Capture = pytest.CaptureFixture[str]


# speak


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_text_is_written_to_a_file(suffix: str, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / f"said{suffix}"
    assert main(["speak", "Good morning.", "-o", str(out)]) == 0
    said, told = capsys.readouterr()
    assert said == ""
    assert told == f"{out}: 4.00 s of speech, made in 0.50 s\n"
    assert load(out).seconds == pytest.approx(4.0, abs=0.1)
    assert COMMENT in (tag(out) or "")
    assert soundfile.info(str(out)).extra_info is not None


def test_every_option_reaches_the_model(fake: type[FakeAssistant], tmp_path: Path) -> None:
    arguments = ["--lang", "German", "--voice", CLIP, "--voice-text", "Jazz.", "--i-have-consent", "--seed", "5"]
    arguments += ["--best-of", "3", "--model", "mine", "--device", "cpu", "-o", str(tmp_path / "a.wav")]
    assert main(["speak", "Guten Tag.", *arguments]) == 0
    wanted = {"task": "speak", "text": "Guten Tag.", "language": "German", "voice": CLIP, "voice_text": "Jazz."}
    assert fake.asked == [{**wanted, "consent": True, "seed": 5, "best_of": 3}]
    assert [(made.model, made.device) for made in fake.made] == [("mine", "cpu")]


def test_consent_without_a_voice_is_no_matter(fake: type[FakeAssistant], tmp_path: Path) -> None:
    assert main(["speak", "Hi.", "--i-have-consent", "-o", str(tmp_path / "a.wav")]) == 0
    assert fake.asked == [{"task": "speak", "text": "Hi."}]


class Input:
    """A standard input that holds bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


def test_a_dash_reads_the_text_from_standard_input(
    fake: type[FakeAssistant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    out = str(tmp_path / "a.wav")
    monkeypatch.setattr(sys, "stdin", Input("Grüß Gott.\n".encode()))
    assert main(["speak", "-", "-o", out]) == 0
    assert fake.asked[0]["text"] == "Grüß Gott."
    for content, code, message in (
        (b" \n", 2, "no text came in"),
        (b"", 1, "nothing came in"),
        (b"a " * 40_000, 2, "make it shorter"),
    ):
        monkeypatch.setattr(sys, "stdin", Input(content))
        assert main(["speak", "-", "-o", out]) == code
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error
    assert len(fake.asked) == 1


def test_a_text_that_cannot_be_said_is_one_line(fake: type[FakeAssistant], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "a.wav"
    assert main(["speak", "fail", "-o", str(out)]) == 1
    assert capsys.readouterr() == ("", "speechllm: it cannot be said\n")
    assert not out.exists()
    with pytest.raises(TaskError):
        main(["speak", "fail", "-o", str(out), "--debug"])


def test_lines_go_to_numbered_files_and_one_that_fails_stops_nothing(
    fake: type[FakeAssistant], tmp_path: Path, capsys: Capture
) -> None:
    lines, out = tmp_path / "lines.txt", tmp_path / "new" / "folder"
    lines.write_text("Un café.\n\n  fail\nThree. \n", "utf-8")
    assert main(["speak", "--lines", str(lines), "-o", str(out), "--seed", "2"]) == 1
    assert sorted(path.name for path in out.iterdir()) == ["0001.wav", "0004.wav"]
    assert [each["text"] for each in fake.asked] == ["Un café.", "fail", "Three."]
    assert {each["seed"] for each in fake.asked} == {2}
    told = capsys.readouterr().err.splitlines()
    assert told[1] == "speechllm: 0003.wav: it cannot be said"
    assert len(told) == 3 and len(fake.made) == 1
    lines.write_text("One.\nTwo.")
    assert main(["speak", "--lines", str(lines), "-o", str(out)]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["speak"], "TEXT"),
        (["speak", "Hi."], "-o FILE"),
        (["speak", "Hi.", "-o", "a.xyz"], ".wav, .flac"),
        (["speak", "Hi.", "-o", "a"], ".wav, .flac"),
        (["speak", "Hi.", "-o", "."], "not a file"),
        (["speak", "Hi.", "-o", "no/such/folder/a.wav"], "existing folder"),
        (["speak", "Hi.", "--lines", "lines.txt", "-o", "out"], "not both"),
        (["speak", "--lines", "lines.txt"], "-o FOLDER"),
        (["speak", "--lines", "gone.txt", "-o", "out"], "gone.txt: No such file"),
        (["speak", "--lines", "empty.txt", "-o", "out"], "nothing to say"),
        (["speak", "--lines", "latin.txt", "-o", "out"], "not UTF-8"),
        (["speak", "--lines", "lines.txt", "-o", "lines.txt"], "cannot be a folder"),
        (["speak", " ", "-o", "a.wav"], "empty"),
        (["speak", "Hi.", "-o", "a.wav", "--voice", CLIP], "--i-have-consent"),
        (["speak", "Hi.", "-o", "a.wav", "--voice-text", "Hi."], "give voice too"),
        (["speak", "Hi.", "-o", "a.wav", "--lang", "Klingon"], "'Klingon'"),
        (["speak", "Hi.", "-o", "a.wav", "--seed", "-1"], "seed"),
        (["speak", "Hi.", "-o", "a.wav", "--seed", "x"], "'x'"),
        (["speak", "Hi.", "-o", "a.wav", "--best-of", "0"], "best_of"),
        (["speak", "Hi.", "-o", "a.wav", "--device", "tpu"], "'tpu'"),
        (["run", "reply", CLIP], "-o FILE"),
        (["run", "reply", CLIP, "-o", "a.txt"], ".wav, .flac"),
        (["run", "reply", CLIP, OTHER, "-o", "a.wav"], "existing folder"),
        (["run", "reply", CLIP, CLIP, "-o", "."], "en_jazz.wav in it would be written over"),
        (["run", "repeat", "there.wav", CLIP, "-o", "."], "there.wav in it would be written over"),
        (["run", "reply", "-o", "a.wav"], "AUDIO"),
        (["run", "reply", CLIP, "-o", "a.wav", "--voice", OTHER], "--i-have-consent"),
        (["run", "transcribe", CLIP, "-o", "a.wav"], "not of task 'transcribe'"),
        (["run", "transcribe", CLIP, "--seed", "1"], "seed is for tasks that speak"),
        (["run", "speak", CLIP, "--set", "text=Hi.", "-o", "a.wav"], "takes no recording"),
        (["run", "speak", "-o", "a.wav"], "'text'"),
        (["run", "translate_text", "--set", "text=Hi."], "'target'"),
        (["detect"], "FILE"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, fake: type[FakeAssistant], capsys: Capture, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text("One.")
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    soundfile.write("there.wav", MARKED.samples, MARKED.rate)
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("speechllm")
    assert said in error
    assert not fake.made, "no model is loaded for a wrong command"
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize("command", ["speak", "detect"])
def test_each_command_teaches_by_an_example(command: str, capsys: Capture) -> None:
    assert main([command, "--help"]) == 0
    assert f"  speechllm {command}" in capsys.readouterr().out


# run


def test_an_answer_is_printed_and_said(fake: type[FakeAssistant], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "answer.flac"
    assert main(["run", "reply", CLIP, "-o", str(out), "--voice", OTHER, "--i-have-consent", "--seed", "1"]) == 0
    assert capsys.readouterr() == ("an answer\n", f"{out}: 4.00 s of speech, made in 0.50 s\n")
    assert load(out).seconds == pytest.approx(4.0)
    asked = {"task": "reply", "voice": OTHER, "consent": True, "seed": 1, "reader": "attention", "audio": CLIP}
    assert fake.asked == [asked]


def test_json_has_no_sound_in_it(tmp_path: Path, capsys: Capture) -> None:
    assert main(["run", "interpret", CLIP, "--set", "target=de", "-o", str(tmp_path / "a.wav"), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert row["audio"] == CLIP
    assert row["timings"]["first_audio"] == 0.25
    assert len(line) < 1000
    assert (tmp_path / "a.wav").is_file()


def test_a_streamed_answer_is_said_too(tmp_path: Path, capsys: Capture) -> None:
    assert main(["run", "reply", CLIP, "-o", str(tmp_path / "a.wav"), "--stream"]) == 0
    assert capsys.readouterr().out == "an answer \n"
    assert (tmp_path / "a.wav").is_file()


def test_several_answers_go_to_a_folder_by_their_recordings(tmp_path: Path, capsys: Capture) -> None:
    assert main(["run", "repeat", CLIP, OTHER, "-o", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["de_zug.wav", "en_jazz.wav"]
    assert capsys.readouterr().out.splitlines() == [f"{CLIP}: an answer", f"{OTHER}: an answer"]


def test_nothing_said_writes_nothing(fake: type[FakeAssistant], tmp_path: Path, capsys: Capture) -> None:
    fake.finish = "no speech"
    assert main(["run", "reply", CLIP, "-o", str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().err == f"speechllm: {CLIP}: no speech was heard\n"
    assert not list(tmp_path.iterdir())


def test_a_task_that_reads_needs_no_recording(fake: type[FakeAssistant], tmp_path: Path, capsys: Capture) -> None:
    assert main(["run", "translate_text", "--set", "text=Hello.", "--set", "target=de"]) == 0
    assert capsys.readouterr().out == "Hello.\n"
    fake.finish = "length"
    assert main(["run", "speak", "--set", "text=Hi.", "--lang", "en", "-o", str(tmp_path / "a.wav")]) == 0
    assert [each["task"] for each in fake.asked] == ["translate_text", "speak"]
    assert fake.asked[1]["language"] == "en"
    told = capsys.readouterr().err.splitlines()
    assert told[1].startswith("speechllm: the answer was cut")


# detect


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """One of generated speech, one of a recording, one that is none."""
    Sound(MARKED.samples, MARKED.rate).save(tmp_path / "made.ogg")
    (tmp_path / "notes.wav").write_text("these are notes")
    return [str(tmp_path / "made.ogg"), CLIP, str(tmp_path / "notes.wav")]


def test_generated_speech_is_told(files: list[str], capsys: Capture) -> None:
    assert main(["detect", *files]) == 1
    said, told = capsys.readouterr()
    first, second = said.splitlines()
    assert first.startswith(f"{files[0]}: generated (mark found, score ")
    assert f"tag: {COMMENT}" in first
    assert second.startswith(f"{CLIP}: no mark found (score ") and "tag" not in second
    (line,) = told.splitlines()
    assert line.startswith("speechllm: ") and "notes.wav" in line
    assert main(["detect", *files[:2]]) == 0


def test_what_is_found_as_json(files: list[str], capsys: Capture) -> None:
    assert main(["detect", *files[:2], "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == files[:2]
    assert [row["is_marked"] for row in rows] == [True, False]
    assert all((row["score"] > row["threshold"]) == row["is_marked"] for row in rows)
    assert [row["tag"] is None for row in rows] == [False, True]
