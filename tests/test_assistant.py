"""What `Assistant` promises whatever the model has learned: checks first, silence stays silent, long is bounded."""

from pathlib import Path

import numpy as np
import pytest
import torch

from speechllm import devices
from speechllm.assistant import Answer, Assistant, HeardSoFar
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.audio.duration import declared_seconds
from speechllm.decode import Effort, once, repeated, settled
from speechllm.errors import AudioError, SpeechLLMError, TaskError
from speechllm.hearing import from_text
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
        ({"task": "transcribe", "max_new_tokens": 10**30}, "at most 4096"),
        ({"task": "transcribe", "reading": "both"}, "not both"),
        ({"task": "a\0b"}, "no task"),
        ({"task": "a\0b.yaml"}, "null byte"),
        ({"task": "\ud800.yaml"}, "cannot read the task"),
        ({"task": "x" * 5000}, "no task"),
        ({"task": "transcribe", "wording": "1"}, "wording must be a whole number, not '1'"),
        ({"task": "transcribe", "wording": 1.5}, "wording must be a whole number"),
        ({"task": "transcribe", "wording": -1}, "wording must be at least 0"),
        ({"task": "transcribe", "max_new_tokens": "5"}, "max_new_tokens must be a whole number"),
        ({"task": "transcribe", "max_new_tokens": 1.5}, "max_new_tokens must be a whole number"),
        ({"task": "transcribe", "held_out": "yes"}, "held_out is True or False"),
        ({"task": "transcribe", "reader": ["ctc"]}, "'attention' or 'ctc'"),
        ({"task": "transcribe", "language": 5}, "language is a language"),
        ({"task": "transcribe", "language": [None]}, "language is a language"),
        ({"task": "transcribe", "language": []}, "language is a language"),
        ({"task": "answer", "language": 5}, "language is a language"),
        ({"task": "answer", "language": "Klingon"}, "unknown language 'Klingon'"),
        ({"task": "translate", "target": b"de"}, "target is a text, not bytes"),
        ({"task": "answer", "reading": 5}, "reading is a text, not int"),
        ({"task": "answer", "reading": b"hi"}, "reading is a text, not bytes"),
        ({"task": "ask", "question": "\ud800"}, "half a character"),
        ({"task": "ask", "question": "why " * 25_000}, "100000 characters"),
        ({"task": "ask", "question": "why " * 3_000}, "at most 2048 are read at once"),
        ({"task": "transcribe", "reader": "ctc", "check": True}, "not checked"),
        ({"task": "transcribe", "reader": "ctc", "reading": "a"}, "hears a recording"),
        ({"task": "transcribe", "reader": "ctc", "max_new_tokens": 2}, "writes no tokens"),
        ({"task": "transcribe", "reader": "ctc", "wording": 1}, "given no instruction"),
        ({"task": "transcribe", "check": False, "max_new_tokens": 2}, "as they are read"),
        ({"task": "translate", "target": "German", "check": True}, "check is for tasks"),
        ({"task": "transcribe", "progress": 1}, "progress is a function"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(assistant: Assistant, options: dict, message: str) -> None:
    task = options.pop("task")
    with pytest.raises(TaskError, match=message) as caught:
        assistant.stream(task, audio="never-opened.wav", **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


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


@pytest.mark.parametrize(
    "audio",
    [None, "full.wav", Path("full.wav"), b"RIFF", 5, np.zeros(9), (np.zeros(9), 16_000), {"a.wav": 1}],
    ids=lambda audio: type(audio).__name__,
)
def test_a_batch_wants_several_recordings(assistant: Assistant, audio: object) -> None:
    with pytest.raises(TaskError, match="a list of recordings"):
        assistant.batch("transcribe", audio)  # type: ignore[arg-type]


def test_a_batch_is_checked_even_when_empty(assistant: Assistant) -> None:
    assert assistant.batch("transcribe", []) == []
    with pytest.raises(TaskError, match="no task 'nosuch'"):
        assistant.batch("nosuch", [])
    with pytest.raises(TaskError, match="by run"):
        assistant.batch("answer", [], reading="Who?")


def test_a_batch_answers_in_order_and_with_its_options(assistant: Assistant, spoken: Clip) -> None:
    clips = [spoken, Clip(np.zeros(32_000, np.float32), 16_000), spoken.cut(0, 1.5)]
    answers = assistant.batch("translate", clips, target="German", max_new_tokens=2)
    assert [answer.seconds for answer in answers] == pytest.approx([clip.seconds for clip in clips])
    assert answers[1].finish == "no speech"
    assert all("German" in answer.prompt for answer in answers)


@pytest.mark.parametrize(
    ("task", "slots", "said"),
    [
        ("ask", {"question": "Who?", "language": "German"}, ("de",)),
        ("answer", {"language": ["de", "English", "German"]}, ("de", "en")),
        ("follow", {"instruction": "Count.", "language": "de,English"}, ("de", "en")),
        ("transcribe", {"language": ("de", "en")}, ("de", "en")),
        ("translate", {"target": "English", "source": "de"}, ("de",)),
        ("translate", {"target": "English", "language": "de"}, ("de",)),
        ("answer", {"language": None}, ()),
    ],
)
def test_every_task_takes_the_language_that_is_spoken(
    assistant: Assistant,
    spoken: Clip,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    slots: dict,
    said: tuple[str, ...],
) -> None:
    asked = []
    hear = assistant.model.ear.hear
    monkeypatch.setattr(assistant.model.ear, "hear", lambda clip, of: asked.append(of) or hear(clip, of))
    answer = assistant.run(task, audio=spoken.cut(0, 2), max_new_tokens=1, **slots)
    assert asked == [said]
    assert answer.language in said or not said
    assert ("German" in answer.prompt) == (task == "transcribe" or "source" in slots)


@pytest.mark.parametrize("task", ["transcribe", "answer"])
def test_seconds_are_those_of_the_whole_recording(assistant: Assistant, spoken: Clip, task: str) -> None:
    samples = np.concatenate([spoken.samples[:48_000], np.zeros(40 * 16_000, np.float32)])
    seen: list[tuple[float, float | None]] = []
    answer = assistant.run(task, audio=(samples, 16_000), max_new_tokens=1, progress=lambda *at: seen.append(at))
    assert answer.seconds == pytest.approx(43.0)
    assert seen[-1] == (answer.seconds, answer.seconds)
    assert len(seen) == 2 and 1 < seen[0][0] < 6
    seen.clear()
    assistant.run(task, audio=(samples[:48_000], 16_000), max_new_tokens=1, progress=lambda *at: seen.append(at))
    assert seen == [(3.0, 3.0)]


def test_a_recording_too_long_for_one_answer_is_refused_as_soon_as_that_is_known(
    assistant: Assistant, spoken: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = from_text("word " * 180, assistant.model.vocabulary)  # 900 positions of the tiny model
    heard = []
    monkeypatch.setattr(assistant.model.ear, "hear", lambda clip, _: heard.append(clip) or wide)
    with pytest.raises(TaskError, match="word pieces at once beside its instruction, the first"):
        assistant.run("answer", audio=_long(spoken, 150))
    assert len(heard) == 3
    with pytest.raises(TaskError, match="the text has"):
        assistant.run("answer", reading="word " * 500)


def test_declared_seconds_are_those_that_are_decoded(spoken: Clip) -> None:
    path = sorted(CLIPS.glob("*.ogg"))[0]
    for source in (path, str(path), path.read_bytes(), spoken, (spoken.samples, spoken.rate)):
        assert declared_seconds(source) == pytest.approx(spoken.seconds, abs=0.1)
    for source in (None, "nowhere.wav", b"no sound", (1, 2), path.parent):
        assert declared_seconds(source) is None


def _long(spoken: Clip, seconds: float) -> Clip:
    """Speech with pauses between."""
    one = np.concatenate([spoken.samples, np.zeros(2 * 16_000, np.float32)])
    return Clip(np.tile(one, int(seconds * 16_000 / len(one)) + 1), 16_000)


def test_a_closed_stream_hears_no_further(assistant: Assistant, spoken: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    hear = assistant.model.ear.hear
    monkeypatch.setattr(assistant.model.ear, "hear", lambda clip, of: heard.append(clip) or hear(clip, of))
    stream = assistant.stream("answer", audio=_long(spoken, 60))
    assert isinstance(next(stream.steps()), HeardSoFar)
    stream.close()
    assert list(stream) == [] and len(heard) == 1
    with pytest.raises(TaskError, match="closed"):
        _ = stream.answer


def test_a_stream_that_failed_says_so_again(assistant: Assistant) -> None:
    stream = assistant.stream("transcribe", audio="nowhere.wav")
    with pytest.raises(AudioError) as first:
        list(stream)
    with pytest.raises(AudioError) as second:
        _ = stream.answer
    assert second.value is first.value


def test_a_loop_is_said_once(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = assistant.model.vocabulary
    start, run = vocabulary.encode("Ja: "), vocabulary.encode("bitte, ")
    written = iter([*start, *(run * 30)])

    def decode(language: object, prompts: list, stops: frozenset, limits: list, draft: object, effort: Effort):
        effort.finished, effort.loops = [False], [0]
        ids: list[int] = []
        for token in written:
            ids.append(token)
            yield 0, token
            if size := repeated(ids):
                effort.loops[0] = size
                return

    monkeypatch.setattr("speechllm.model.decode", decode)
    stream = assistant.stream("answer", reading="Who?")
    assert "".join(stream) == "Ja: bitte,"
    assert (stream.answer.text, stream.answer.finish) == ("Ja: bitte,", "loop")


@pytest.mark.parametrize(("ids", "size", "kept"), [([1, 2, 2, 2], 1, 2), ([9, 1, 2, 1, 2, 1], 2, 3), ([], 1, 0)])
def test_a_repeated_run_is_kept_once(ids: list[int], size: int, kept: int) -> None:
    assert once(ids, size) == kept
    assert settled(ids) <= kept


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:99", "tpu", 5])
def test_a_device_that_is_not_there_is_told_before_anything_is_loaded(name: object) -> None:
    with pytest.raises(SpeechLLMError, match="device") as caught:
        Assistant("never-loaded", device=name)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_devices_by_name() -> None:
    assert devices.checked("cpu") == "cpu"
    assert devices.checked(None) == ("cuda" if torch.cuda.is_available() else "cpu")


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
    whole = _long(spoken, 40)
    seen: list[tuple[float, float | None]] = []
    answer = assistant.run("transcribe", audio=whole, max_new_tokens=4, progress=lambda *at: seen.append(at))
    assert len(seen) >= 2
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {whole.seconds}
    assert seen[-1] == (whole.seconds, whole.seconds)
    assert answer.seconds == pytest.approx(whole.seconds)
    starts = [word.start for word in answer.words]
    assert starts == sorted(starts)
    assert starts[-1] > 20
