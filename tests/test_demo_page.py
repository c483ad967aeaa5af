"""The page of the demo, as a browser meets it."""

from __future__ import annotations

import base64
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gradio
import gradio_client
import numpy as np
import pytest
from gradio_client.exceptions import AppError

from demos import page, speaking
from speechllm import tasks
from speechllm.assistant import Answer, Assistant, HeardSoFar, Stream
from speechllm.audio.decode import load
from speechllm.audio.save import tag
from speechllm.errors import SpeechLLMError, TaskError, WeightsError
from tests.test_demos import CLIP, TEXT, FakeAssistant, noise

# What gradio itself does: an event loop left open, and calls that pandas means to drop.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def launched() -> Iterator[tuple[gradio.Blocks, str, FakeAssistant]]:
    """The page, its address, and the fake assistant behind it."""
    assistant = FakeAssistant()
    blocks, address = page.launch(lambda: assistant)  # type: ignore[arg-type,return-value]
    yield blocks, address, assistant
    blocks.close(verbose=False)


@pytest.fixture
def served(launched: tuple[gradio.Blocks, str, FakeAssistant]) -> tuple[str, FakeAssistant]:
    return launched[1:]


@pytest.fixture
def blocks(launched: tuple[gradio.Blocks, str, FakeAssistant]) -> gradio.Blocks:
    return launched[0]


@pytest.fixture(scope="module")
def client(launched: tuple[gradio.Blocks, str, FakeAssistant]) -> gradio_client.Client:
    return gradio_client.Client(launched[1], verbose=False, analytics_enabled=False)


def press(
    client: gradio_client.Client,
    audio: Path | None,
    task: str,
    voice: Path | None = None,
    consent: bool = False,
    **slots: Any,
) -> list[speaking.Shown]:
    """What the button gives, piece by piece."""
    values = [slots.get(slot) for name in page._in_order(tasks.names()) for slot in tasks.load(name).slots]
    given, lent = (gradio_client.handle_file(str(path)) if path else None for path in (audio, voice))
    job = client.submit(given, task, lent, consent, *values, api_name="/answer")
    job.result(timeout=300)
    return [speaking.Shown(*each) for each in job.outputs()]


def ask(assistant: Any, task: str, audio: str | None = None, *more: Any, **slots: Any) -> Iterator[speaking.Shown]:
    """What the page shows, without a page."""
    return speaking.answered(speaking.Opening(assistant), tasks.load(task), audio, slots, print, *more)


def test_the_page_streams_an_answer_with_words_and_times(
    served: tuple[str, FakeAssistant], client: gradio_client.Client
) -> None:
    pieces = press(client, CLIP, "translate", target="German")
    assert "<b>loud</b> " in [each.text for each in pieces], "the answer comes bit by bit"
    assert "Listening … heard 2:05 of 5:00" in [each.note for each in pieces]
    text, words, note, live, sound = pieces[-1]
    assert text == TEXT
    assert not live and sound is None
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


def test_a_text_is_said_while_more_of_it_is_made(
    served: tuple[str, FakeAssistant], client: gradio_client.Client
) -> None:
    pieces = press(client, CLIP, "speak", text="Good morning.", language="German")
    assert served[1].asked[-1] == ("speak", {"text": "Good morning.", "language": "German"})
    lives = list(dict.fromkeys(each.live for each in pieces if each.live))
    assert len(lives) > 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(lives))
    samples, rate = heard_by_player(lives[-1])
    assert rate == 16_000
    np.testing.assert_allclose(samples, noise(3.2).samples, atol=1e-4)
    assert all(each.sound is None for each in pieces[:-1])
    assert "3.2 s of speech" in pieces[-1].note and "of audio" not in pieces[-1].note
    path = pieces[-1].sound
    assert path is not None
    assert tag(path) is not None
    assert load(path).seconds == pytest.approx(3.2)


def heard_by_player(live: str) -> tuple[np.ndarray, int]:
    """Samples and rate of what the page's player is given."""
    head, *lines, end = live.splitlines()
    assert end == speaking.END
    pieces = [np.frombuffer(base64.b64decode(line), "<i2") / 32768 for line in lines]
    assert all(len(piece) >= 8_000 for piece in pieces[:-1])
    return np.concatenate(pieces), int(head.split()[1])


def test_two_answers_are_two_to_the_player() -> None:
    first_run, second = (list(ask(FakeAssistant, "speak", text="Yes."))[-1].live for _ in range(2))
    assert first_run.split()[0] != second.split()[0]


def test_a_voice_goes_with_tasks_that_speak(served: tuple[str, FakeAssistant], client: gradio_client.Client) -> None:
    press(client, CLIP, "reply", voice=CLIP, consent=True)
    task, options = served[1].asked[-1]
    assert task == "reply"
    assert Path(options.pop("voice")).name == CLIP.name
    assert options == {"consent": True}
    press(client, CLIP, "answer", voice=CLIP, consent=True)
    assert served[1].asked[-1] == ("answer", {})


def test_a_voice_needs_consent(served: tuple[str, FakeAssistant], client: gradio_client.Client) -> None:
    before = len(served[1].asked)
    with pytest.raises(AppError, match=r"consent of whoever it belongs to.*tick the box"):
        press(client, CLIP, "repeat", voice=CLIP)
    assert len(served[1].asked) == before


def test_sound_that_breaks_off_is_played_so_far() -> None:
    class Broken(FakeAssistant):
        def stream(self, task: str, audio: Any = None, **options: Any) -> Stream:
            def steps() -> Iterator[Any]:
                yield noise(0.7)
                yield noise(0.1)
                raise TaskError("this model speaks English, not German")

            return Stream(steps())

    shown = []
    with pytest.raises(gradio.Error, match="not German"):
        shown.extend(ask(Broken, "speak", text="Yes."))
    assert len(heard_by_player(shown[-1].live)[0]) == round(0.8 * 16_000)


def handler(blocks: gradio.Blocks, name: str) -> Any:
    """What the page does at an event."""
    return next(each.fn for each in blocks.fns.values() if each.name == name)


def test_a_model_without_a_voice_says_so(
    served: tuple[str, FakeAssistant], blocks: gradio.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    (*_, state) = handler(blocks, "wait")()
    assert state.visible is False
    monkeypatch.setattr(served[1].aloud, "folder", None)
    (*_, state) = handler(blocks, "wait")()
    assert state.visible
    assert "Speak" in state.value and "Transcribe" not in state.value


@pytest.mark.parametrize("name", tasks.names())
def test_a_task_shows_what_it_takes_and_gives(name: str, blocks: gradio.Blocks) -> None:
    task = tasks.load(name)
    about, _, audio, voice, sound, *_ = handler(blocks, "choose")(name)
    assert about == task.description
    assert audio.visible is not bool(task.reads)
    assert voice.visible is sound.visible is task.says


@pytest.mark.parametrize(("audio", "task"), [(None, "transcribe"), (CLIP, "ask")])
def test_what_is_missing_is_asked_for(
    audio: Path | None, task: str, served: tuple[str, FakeAssistant], client: gradio_client.Client
) -> None:
    before = len(served[1].asked)
    press(client, audio, task)
    assert len(served[1].asked) == before


def test_what_is_missing_is_named() -> None:
    told: list[str] = []
    opening = speaking.Opening(FakeAssistant)  # type: ignore[arg-type]
    for task, audio in (("ask", None), ("ask", str(CLIP)), ("speak", None)):
        assert list(speaking.answered(opening, tasks.load(task), audio, {}, told.append)) == []
    assert "recording" in told[0]
    assert "question" in told[1]
    assert "what to say" in told[2]


class FailingAssistant(FakeAssistant):
    """Refuses every request."""

    def stream(self, task: str, audio: Any = None, **slots: Any) -> Stream:
        raise TaskError("question has 100000 characters")


def test_a_refusal_stays_on_the_page() -> None:
    notes = []
    with pytest.raises(gradio.Error, match="100000"):
        notes.extend(each.note for each in ask(FailingAssistant, "answer", str(CLIP)))
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

    steps = ask(Slow, "answer", str(CLIP))
    assert [next(steps).note, next(steps).note][1] == "Listening … heard 0:10"
    steps.close()  # type: ignore[attr-defined]
    assert heard == [10.0]


def test_stop_says_so(blocks: gradio.Blocks) -> None:
    assert [each.fn() for each in blocks.fns.values() if each.fn and each.name == "<lambda>"] == ["Stopped."]
    assert sum(each.is_cancel_function for each in blocks.fns.values()) == 1


@pytest.mark.parametrize(
    ("finish", "said"), [("loop", "say the same again"), ("length", "cut at"), ("no speech", "No speech")]
)
def test_the_note_says_how_an_answer_ended(finish: str, said: str) -> None:
    assert said in speaking.note(Answer("", "answer", "", finish=finish, timings={"total": 1.0}), None)


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


def test_every_slot_of_every_task_has_a_field(blocks: gradio.Blocks) -> None:
    inputs = next(each.inputs for each in blocks.fns.values() if each.api_name == "answer")
    assert len(inputs) == 4 + sum(len(tasks.load(name).slots) for name in tasks.names())


def test_the_page_is_there_before_the_model() -> None:
    def slow() -> FakeAssistant:
        time.sleep(0.2)
        return FakeAssistant()

    opening = speaking.Opening(slow)  # type: ignore[arg-type]
    page.build(opening)
    assert isinstance(opening.get(), FakeAssistant)
    assert opening.is_done


def test_a_model_that_cannot_be_opened_is_told() -> None:
    def gone() -> Assistant:
        raise WeightsError("pocket cannot be had")

    with pytest.raises(SpeechLLMError, match="cannot be had"):
        speaking.Opening(gone).get()


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
