"""The demo: the answers and the speech of `make demo`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import speechllm.assistant
from demos import CLIPS, SENTENCE, clips, first, page
from speechllm import tasks
from speechllm.assistant import Answer, HeardSoFar, Stream
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.audio.mark import mark
from speechllm.audio.save import Sound, tag
from speechllm.errors import AudioError, WeightsError
from speechllm.reading import Word
from speechllm.request import checked

TEXT = "<b>loud</b> & clear"
CLIP = CLIPS / "en_jazz.ogg"


def noise(seconds: float) -> Clip:
    """Marked sound, such as a voice makes."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(round(16_000 * seconds))
    return mark(Clip(samples.astype(np.float32), 16_000))


class FakeAssistant:
    """Answers the same to everything, after reading the recording, and says it in noise."""

    folder: Path | None = Path("voice")

    def __init__(self, *_: Any, **__: Any) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.aloud = SimpleNamespace(folder=self.folder)

    def run(self, task: str, audio: Any = None, **options: Any) -> Answer:
        request = checked(task, options)
        assert (audio is None) == bool(request.task.reads)
        seconds = 0.0 if audio is None else load(audio).seconds
        self.asked.append((task, options))
        words = (Word("<b>loud</b>", 0.25, 0.5, 0.5), Word("clear", 0.5, 1.0, 1.0))
        answer = Answer(TEXT, task, request.instruction, words, "en", TEXT, "stop", {"total": 0.5}, seconds)
        if request.speech is None:
            return answer
        clip = noise(3.2)
        timings = {"total": 0.5, "first_audio": 0.25, "say": 0.4}
        return replace(answer, audio=Sound(clip.samples, clip.rate), timings=timings)

    def stream(self, task: str, audio: Any = None, **options: Any) -> Stream:
        answer = self.run(task, audio, **options)
        sound = answer.audio
        pieces = [] if sound is None else [sound.cut(0.2 * i, 0.2 * (i + 1)) for i in range(16)]
        return Stream(iter([HeardSoFar(125.0, 300.0), *(f"{word} " for word in TEXT.split()), *pieces, answer]))


# The answers


def test_the_clips_ask_every_task_that_hears_and_writes() -> None:
    hearing = {name for name in tasks.names() if not (tasks.load(name).reads or tasks.load(name).says)}
    assert {clip.task for clip in clips()} == hearing
    for clip in clips():
        tasks.load(clip.task).instruction(clip.slots)
        assert clip.audio.is_file()


def test_first_prints_each_answer_and_its_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(speechllm.assistant, "Assistant", FakeAssistant)
    assert first.main(["--no-serve", "--out", str(tmp_path)]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert out.count(TEXT) == out.count("time     0.50 s\n") == len(clips())
    for clip in clips():
        assert clip.audio.name in out
        assert tasks.load(clip.task).instruction(clip.slots) in out


def test_first_speaks_in_two_voices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assistant, folder = FakeAssistant(), tmp_path / "new" / "demo"
    assert first.say_all(assistant, folder) == 0  # type: ignore[arg-type]
    out = capsys.readouterr().out
    (_, own), (_, lent) = assistant.asked
    assert own["text"] == lent["text"] == SENTENCE
    assert "voice" not in own
    assert lent["consent"] is True
    assert (lent["voice"].name, lent["voice_text"]) == next((c.audio.name, c.text) for c in clips() if c.lang == "en")
    files = sorted(folder.iterdir())
    assert len(files) == 2
    assert all(tag(path) and str(path) in out for path in files)
    assert out.count("the first sound after 0.25 s") == out.count("mark     found (") == 2
    assert "public domain" in out


def test_first_with_a_model_that_does_not_speak(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeAssistant, "folder", None)
    assistant = FakeAssistant()
    assert first.say_all(assistant, tmp_path / "out") == 0  # type: ignore[arg-type]
    assert capsys.readouterr().out.strip() == "This model has no voice: nothing is said aloud."
    assert not assistant.asked and not (tmp_path / "out").exists()


def test_first_with_a_folder_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speechllm.assistant, "Assistant", FakeAssistant)
    (tmp_path / "file").write_text("")
    assert first.main(["--no-serve", "--out", str(tmp_path / "file")]) == 1
    assert re.fullmatch(r"demo: --out .*: cannot be a folder \(.*\)\n", capsys.readouterr().err)


def test_first_tells_in_a_line_what_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise WeightsError("pocket cannot be had")

    monkeypatch.setattr(speechllm.assistant, "Assistant", gone)
    assert first.main([]) == 1
    assert capsys.readouterr().err == "demo: pocket cannot be had\n"


@pytest.mark.parametrize("module", [first, page])
def test_a_device_that_is_not_there_is_one_line(module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert module.main(["--device", "gpu"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.endswith("'gpu' is no device: use cpu, cuda, cuda:1 or mps\n") and error.count("\n") == 1


def test_first_with_an_answer_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise AudioError("it is cut short")

    monkeypatch.setattr(speechllm.assistant, "Assistant", FakeAssistant)
    monkeypatch.setattr(FakeAssistant, "run", run)
    assert first.main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("it is cut short\n") == len(clips()) + 2


def test_pocket_answers_the_bundled_clips(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What `make demo ARGS=--no-serve` runs, with the real model."""
    assert first.main(["--no-serve", "--device", "cpu", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    answers = re.findall(r"^  answer   (.*)$", out, re.MULTILINE)
    assert len(answers) == len(clips())
    assert all(answers)
    assert "clouds" in answers[0].lower()
    assert "summer" in answers[1].lower()
    assert len(set(answers)) == len(answers)
