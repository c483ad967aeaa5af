"""The demo: the answers of `make demo`, and the page as a browser meets it."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio
import gradio_client
import pytest
from gradio_client.exceptions import AppError

import speechllm.assistant
from demos import CLIPS, clips, first, page
from speechllm import tasks
from speechllm.assistant import Answer, Assistant, HeardSoFar, Stream
from speechllm.audio.decode import load
from speechllm.errors import AudioError, SpeechLLMError, TaskError, WeightsError
from speechllm.reading import Word

TEXT = "<b>loud</b> & clear"
CLIP = CLIPS / "en_jazz.ogg"
# What gradio itself does: an event loop left open, and calls that pandas means to drop.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


class FakeAssistant:
    """Answers the same to everything, after reading the recording."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def run(self, task: str, audio: Any = None, **slots: Any) -> Answer:
        prompt = tasks.load(task).instruction(slots)
        seconds = load(audio).seconds
        self.asked.append((task, slots))
        words = (Word("<b>loud</b>", 0.25, 0.5, 0.5), Word("clear", 0.5, 1.0, 1.0))
        return Answer(TEXT, task, prompt, words, "en", TEXT, "stop", {"total": 0.5}, seconds)

    def stream(self, task: str, audio: Any = None, **slots: Any) -> Stream:
        answer = self.run(task, audio, **slots)
        return Stream(iter([HeardSoFar(125.0, 300.0), *(f"{word} " for word in TEXT.split()), answer]))


# The answers


def test_the_clips_ask_every_task() -> None:
    assert {clip.task for clip in clips()} == set(tasks.names())
    for clip in clips():
        tasks.load(clip.task).instruction(clip.slots)
        assert clip.audio.is_file()


def test_first_prints_each_answer_and_its_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speechllm.assistant, "Assistant", FakeAssistant)
    assert first.main(["--no-serve"]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert out.count(TEXT) == out.count("time     0.50 s") == len(clips())
    for clip in clips():
        assert clip.audio.name in out
        assert tasks.load(clip.task).instruction(clip.slots) in out


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


def test_first_with_an_answer_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise AudioError("it is cut short")

    monkeypatch.setattr(speechllm.assistant, "Assistant", FakeAssistant)
    monkeypatch.setattr(FakeAssistant, "run", run)
    assert first.main([]) == 1
    assert capsys.readouterr().err.count("it is cut short\n") == len(clips())


def test_pocket_answers_the_bundled_clips(capsys: pytest.CaptureFixture[str]) -> None:
    """What `make demo ARGS=--no-serve` runs, with the real model."""
    assert first.main(["--no-serve", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    answers = re.findall(r"^  answer   (.*)$", out, re.MULTILINE)
    assert len(answers) == len(clips())
    assert all(answers)
    assert "clouds" in answers[0].lower()
    assert "summer" in answers[1].lower()
    assert len(set(answers)) == len(answers)


# The page


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, FakeAssistant]]:
    """The page with the fake assistant behind it, and its address."""
    assistant = FakeAssistant()
    blocks, address = page.launch(lambda: assistant)  # type: ignore[arg-type,return-value]
    yield address, assistant
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def client(served: tuple[str, FakeAssistant]) -> gradio_client.Client:
    return gradio_client.Client(served[0], verbose=False, analytics_enabled=False)


def press(client: gradio_client.Client, audio: Path | None, task: str, **slots: Any) -> list[tuple]:
    """What the button gives, piece by piece."""
    values = [slots.get(slot) for name in _order() for slot in tasks.load(name).slots]
    given = gradio_client.handle_file(str(audio)) if audio else None
    job = client.submit(given, task, *values, api_name="/answer")
    job.result(timeout=300)
    return job.outputs()


def _order() -> list[str]:
    """The tasks as the page has them."""
    return list(dict.fromkeys(clip.task for clip in clips()))


def test_the_page_streams_an_answer_with_words_and_times(
    served: tuple[str, FakeAssistant], client: gradio_client.Client
) -> None:
    pieces = press(client, CLIP, "translate", target="German")
    texts = [text for text, _, _ in pieces]
    assert "<b>loud</b> " in texts, "the answer comes bit by bit"
    assert "Listening … heard 2:05 of 5:00" in [note for _, _, note in pieces]
    text, words, note = pieces[-1]
    assert text == TEXT
    assert "&lt;b&gt;loud&lt;/b&gt;" in words
    assert "<b>" not in words, "what is said is text, never HTML"
    assert "0.25" in words
    assert note.startswith(f"English. 0.50 s for {load(CLIP).seconds:.1f} s of audio")
    assert served[1].asked[-1] == ("translate", {"target": "German"})


def test_slots_of_other_tasks_are_left_alone(served: tuple[str, FakeAssistant], client: gradio_client.Client) -> None:
    press(client, CLIP, "ask", question="Which music?", target="German", instruction="Count.")
    assert served[1].asked[-1] == ("ask", {"question": "Which music?"})
    press(client, CLIP, "transcribe", language=["German", "English"])
    assert served[1].asked[-1] == ("transcribe", {"language": ["German", "English"]})


@pytest.mark.parametrize(("audio", "task"), [(None, "transcribe"), (CLIP, "ask")])
def test_what_is_missing_is_asked_for(
    audio: Path | None, task: str, served: tuple[str, FakeAssistant], client: gradio_client.Client
) -> None:
    before = len(served[1].asked)
    press(client, audio, task)
    assert len(served[1].asked) == before


def test_what_is_missing_is_named() -> None:
    told: list[str] = []
    opening = page.Opening(FakeAssistant)  # type: ignore[arg-type]
    assert list(page.answered(opening, tasks.load("ask"), None, {}, told.append)) == []
    assert list(page.answered(opening, tasks.load("ask"), str(CLIP), {}, told.append)) == []
    assert "recording" in told[0]
    assert "question" in told[1]


class FailingAssistant(FakeAssistant):
    """Refuses every request."""

    def stream(self, task: str, audio: Any = None, **slots: Any) -> Stream:
        raise TaskError("question has 100000 characters")


def test_a_refusal_stays_on_the_page() -> None:
    steps = page.answered(page.Opening(FailingAssistant), tasks.load("answer"), str(CLIP), {}, print)  # type: ignore[arg-type]
    notes = []
    with pytest.raises(gradio.Error, match="100000"):
        notes.extend(line for _, _, line in steps)
    assert notes[-1] == "question has 100000 characters"


def test_leaving_the_page_ends_the_work() -> None:
    heard: list[float] = []

    def hear() -> Iterator[Any]:
        for done in (10.0, 20.0, 30.0):
            heard.append(done)
            yield HeardSoFar(done, None)

    class Slow(FakeAssistant):
        def stream(self, task: str, audio: Any = None, **slots: Any) -> Stream:
            return Stream(hear())

    steps = page.answered(page.Opening(Slow), tasks.load("answer"), str(CLIP), {}, print)  # type: ignore[arg-type]
    assert [next(steps)[2], next(steps)[2]][1] == "Listening … heard 0:10"
    steps.close()  # type: ignore[attr-defined]
    assert heard == [10.0]


def test_stop_says_so() -> None:
    blocks = page.build(page.Opening(FakeAssistant))  # type: ignore[arg-type]
    assert [each.fn() for each in blocks.fns.values() if each.fn and each.name == "<lambda>"] == ["Stopped."]
    assert sum(each.is_cancel_function for each in blocks.fns.values()) == 1


@pytest.mark.parametrize(
    ("finish", "said"), [("loop", "say the same again"), ("length", "cut at"), ("no speech", "No speech")]
)
def test_the_note_says_how_an_answer_ended(finish: str, said: str) -> None:
    assert said in page.note(Answer("", "answer", "", finish=finish, timings={"total": 1.0}), None)


def test_a_broken_recording_is_one_line(
    client: gradio_client.Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "notes.wav"
    broken.write_text("these are notes")
    with pytest.raises(AppError, match=r"^notes\.wav: ") as caught:
        press(client, broken, "transcribe")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


def test_the_page_needs_no_other_machine(served: tuple[str, FakeAssistant]) -> None:
    """Nothing that a browser loads by itself comes from elsewhere, and the browser is told so."""
    address = served[0]
    for path in ("/", "/theme.css"):
        with urllib.request.urlopen(address + path) as response:
            text = response.read().decode()
            assert "default-src 'self'" in response.headers["content-security-policy"]
        loaded = re.findall(r"""(?:src=|<link[^>]+href=|url\(|@import\s)["']?(https?:)?//""", text)
        assert not loaded
    with urllib.request.urlopen(address + "/config") as response:
        assert b'"analytics_enabled":false' in response.read()


def test_every_slot_of_every_task_has_a_field() -> None:
    blocks = page.build(page.Opening(FakeAssistant))  # type: ignore[arg-type]
    inputs = next(each.inputs for each in blocks.fns.values() if each.api_name == "answer")
    assert len(inputs) == 2 + sum(len(tasks.load(name).slots) for name in tasks.names())


def test_the_page_is_there_before_the_model() -> None:
    def slow() -> FakeAssistant:
        time.sleep(0.2)
        return FakeAssistant()

    opening = page.Opening(slow)  # type: ignore[arg-type]
    page.build(opening)
    assert isinstance(opening.get(), FakeAssistant)
    assert opening.is_done


def test_a_model_that_cannot_be_opened_is_told() -> None:
    def gone() -> Assistant:
        raise WeightsError("pocket cannot be had")

    with pytest.raises(SpeechLLMError, match="cannot be had"):
        page.Opening(gone).get()


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(SpeechLLMError, match=str(taken)):
            page.free_port("127.0.0.1", taken)
        assert page.free_port("127.0.0.1", None) != taken
    with pytest.raises(SpeechLLMError, match="203.0.113.1"):
        page.free_port("203.0.113.1", None)
