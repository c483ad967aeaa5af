"""What `Assistant` promises whatever the model has learned: checks first, silence stays silent, long is bounded."""

from pathlib import Path

import numpy as np
import pytest

from speechllm.assistant import Answer, Assistant
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.errors import AudioError, TaskError
from speechllm.model import SpeechLLM

CLIPS = Path(__file__).parents[1] / "demos" / "clips"


@pytest.fixture(scope="module")
def assistant(tiny: SpeechLLM, tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    """An assistant on random weights: what it says is noise, how it behaves is not."""
    folder = tmp_path_factory.mktemp("model")
    tiny.save_pretrained(folder)
    return Assistant(str(folder), device="cpu")


@pytest.fixture(scope="module")
def spoken() -> Clip:
    return load(sorted(CLIPS.glob("*.ogg"))[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sing"}, "no task 'sing'"),
        ({"task": "translate"}, "needs the slot 'target'"),
        ({"task": "translate", "target": "Klingon"}, "Klingon"),
        ({"task": "transcribe", "colour": "red"}, "no slot 'colour'"),
        ({"task": "transcribe", "wording": 999}, "wording"),
        ({"task": "transcribe", "reader": "palm"}, "'attention' or 'ctc'"),
        ({"task": "answer", "reader": "ctc"}, "first pass"),
        ({"task": "transcribe", "max_new_tokens": 0}, "at least 1"),
        ({"task": "transcribe", "reading": "both"}, "not both"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(assistant: Assistant, options: dict, message: str) -> None:
    task = options.pop("task")
    with pytest.raises(TaskError, match=message):
        assistant.stream(task, audio="never-opened.wav", **options)


def test_nothing_given_is_refused(assistant: Assistant) -> None:
    with pytest.raises(TaskError, match="give a recording"):
        assistant.run("transcribe")


def test_a_missing_file_is_an_audio_error(assistant: Assistant) -> None:
    with pytest.raises(AudioError, match="nowhere.wav"):
        assistant.run("transcribe", audio="nowhere.wav")


@pytest.mark.parametrize(
    "samples",
    [np.zeros(48_000, np.float32), np.zeros(1, np.float32), np.full(32_000, 0.25, np.float32)],
    ids=["silence", "one sample", "constant"],
)
def test_without_speech_nothing_is_said(assistant: Assistant, samples: np.ndarray) -> None:
    answer = assistant.run("ask", audio=(samples, 16_000), question="What is said?")
    assert (answer.text, answer.finish, answer.words) == ("", "no speech", ())


def test_streamed_pieces_are_the_answer(assistant: Assistant, spoken: Clip) -> None:
    stream = assistant.stream("transcribe", audio=spoken, max_new_tokens=20)
    pieces = list(stream)
    assert (
        "".join(pieces).strip()
        == stream.answer.text
        == assistant.run("transcribe", audio=spoken, max_new_tokens=20).text
    )


def test_a_batch_gives_the_single_answers(assistant: Assistant, spoken: Clip) -> None:
    clips = [spoken, spoken.cut(0, 1.5), spoken.cut(0.5, spoken.seconds)]
    single = [assistant.run("transcribe", audio=clip, max_new_tokens=8).text for clip in clips]
    assert [answer.text for answer in assistant.batch("transcribe", clips, max_new_tokens=8)] == single


def test_times_are_in_the_clip_and_in_order(assistant: Assistant, spoken: Clip) -> None:
    words = assistant.run("transcribe", audio=spoken, max_new_tokens=4).words
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= spoken.seconds for edge in edges)


def test_an_answer_stops_at_its_limit(assistant: Assistant, spoken: Clip) -> None:
    answer = assistant.run("translate", audio=spoken, target="German", max_new_tokens=3)
    assert isinstance(answer, Answer)
    assert answer.finish in {"length", "stop"}
    assert answer.timings["total"] >= answer.timings["hear"] > 0


def test_a_long_recording_is_read_in_stretches_with_progress(assistant: Assistant, spoken: Clip) -> None:
    pause = np.zeros(2 * 16_000, np.float32)
    one = np.concatenate([spoken.samples, pause])
    samples = np.tile(one, int(40 * 16_000 / len(one)) + 1)
    seen: list[float] = []
    answer = assistant.run(
        "transcribe", audio=(samples, 16_000), max_new_tokens=4, progress=lambda done, _: seen.append(done)
    )
    assert len(seen) >= 2
    assert seen == sorted(seen)
    assert answer.seconds == pytest.approx(len(samples) / 16_000, abs=0.1)
    starts = [word.start for word in answer.words]
    assert starts == sorted(starts)
    assert starts[-1] > 20
