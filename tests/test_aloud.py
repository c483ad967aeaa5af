"""Tasks that speak: text and sound of one answer, whose voice, what is refused, and the best of several ways."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from speechllm.aloud import CUT_COST
from speechllm.assistant import Answer, Assistant
from speechllm.audio import mark
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.audio.save import COMMENT, Sound, tag
from speechllm.decode import Effort
from speechllm.encoders.ctc import ALPHABET
from speechllm.errors import AudioError, ConsentError, TaskError, WeightsError
from speechllm.hearing import Heard
from speechllm.model import SpeechLLM
from speechllm.reading import Reading
from speechllm.testing import tone
from speechllm.voice import Said
from tests.test_voice import speaking_assistant

CLIP = Path(__file__).parents[1] / "demos" / "clips" / "en_jazz.ogg"
TEXT = "I do."


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    return speaking_assistant(tmp_path_factory.mktemp("aloud"))


@pytest.fixture(scope="module")
def mute(tiny: SpeechLLM, tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    folder = tmp_path_factory.mktemp("mute")
    tiny.save_pretrained(folder)
    return Assistant(str(folder), device="cpu")


@pytest.fixture(scope="module")
def spoken(assistant: Assistant) -> Answer:
    return assistant.run("speak", text=TEXT)


@pytest.fixture
def writes(assistant: Assistant, monkeypatch: pytest.MonkeyPatch):
    """Let the LLM write a text."""

    def write(text: str) -> None:
        ids = assistant.model.vocabulary.encode(text)

        def decode(language: Any, prompts: list, stops: Any, limits: list, draft: Any, effort: Effort):
            effort.finished, effort.loops = [True], [0]
            yield from ((0, token) for token in ids)

        monkeypatch.setattr("speechllm.model.decode", decode)

    return write


def same(one: Answer, other: Answer) -> bool:
    assert one.audio is not None and other.audio is not None
    return np.array_equal(one.audio.samples, other.audio.samples)


# An answer and its sound


def test_a_text_is_said(spoken: Answer) -> None:
    assert (spoken.text, spoken.task, spoken.reading) == (TEXT, "speak", TEXT)
    assert isinstance(spoken.audio, Sound)
    assert spoken.audio.rate == 16_000
    assert spoken.audio.seconds > 0.1
    assert len(spoken.audio.samples) % 320 == 0
    assert np.isfinite(spoken.audio.samples).all()
    times = spoken.timings
    assert 0 < times["first_audio"] <= times["total"]
    assert 0 < times["say"] <= times["total"]
    assert spoken.finish in ("stop", "length")


def test_a_sound_is_played_and_saved(spoken: Answer, tmp_path: Path) -> None:
    assert spoken.audio is not None
    assert spoken.audio._repr_html_().startswith('<audio controls src="data:audio/wav;base64,UklGR')
    path = spoken.audio.save(tmp_path / "said.flac", TEXT)
    assert tag(path) == COMMENT
    assert np.abs(load(path).samples - spoken.audio.samples.clip(-1, 1)).max() < 1e-3
    with pytest.raises(AudioError, match="ends in none of"):
        spoken.audio.save(tmp_path / "said.txt")


def test_the_streamed_sound_is_the_answers(assistant: Assistant, spoken: Answer) -> None:
    stream = assistant.stream("speak", text=TEXT)
    clips = list(stream.clips())
    assert len(clips) > 1
    joined = np.concatenate([clip.samples for clip in clips])
    assert stream.answer.audio is not None
    assert np.array_equal(joined, stream.answer.audio.samples)
    assert same(stream.answer, spoken)


def test_text_comes_before_sound(assistant: Assistant) -> None:
    kinds = [type(step) for step in assistant.stream("speak", text=TEXT).steps()]
    assert kinds[0] is str
    assert set(kinds[kinds.index(Clip) :]) == {Clip}
    assert "".join(assistant.stream("speak", text=TEXT)) == TEXT


def test_a_seed_says_it_one_way(assistant: Assistant, spoken: Answer) -> None:
    assert same(assistant.run("speak", text=TEXT, seed=0), spoken)
    assert not same(assistant.run("speak", text=TEXT, seed=7), spoken)


def test_the_text_stays_as_it_was_written(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[list[str]] = []
    say = assistant.aloud.voice.say
    monkeypatch.setattr(
        assistant.aloud.voice, "say", lambda sentences, *rest: said.append([*sentences]) or say(["I do."], *rest)
    )
    answer = assistant.run("speak", text="Um 5 Uhr.", language="de")
    assert answer.text == "Um 5 Uhr."
    assert said == [["Um fünf Uhr."]]
    assert assistant.run("speak", text="At 5.").text == "At 5."
    assert said[1] == ["At five."]


def test_a_letter_that_is_cut_is_told(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    for most, finish in ((1, "length"), (5000, "stop")):
        monkeypatch.setattr("speechllm.speaking.most_steps", lambda label, seconds, most=most: most)
        assert assistant.run("speak", text=TEXT).finish == finish


def test_a_closed_stream_says_no_further(assistant: Assistant) -> None:
    stream = assistant.stream("speak", text=TEXT)
    next(stream.clips())
    stream.close()
    assert list(stream.clips()) == []
    with pytest.raises(TaskError, match="closed"):
        _ = stream.answer


# Tasks


@pytest.mark.parametrize(
    ("task", "slots", "voices"),
    [("reply", {"language": "en"}, "en"), ("interpret", {"target": "German"}, "de"), ("reply", {}, "en")],
)
def test_what_the_model_writes_is_said(
    assistant: Assistant, writes: Any, monkeypatch: pytest.MonkeyPatch, task: str, slots: dict, voices: str
) -> None:
    writes("Ja.")
    spoke: list[str] = []
    say = assistant.aloud.voice.say
    monkeypatch.setattr(
        assistant.aloud.voice, "say", lambda text, lang, *rest: spoke.append(lang) or say(text, lang, *rest)
    )
    answer = assistant.run(task, reading="Is it so?", **slots)
    assert (answer.text, answer.reading, spoke) == ("Ja.", "Is it so?", [voices])
    assert answer.audio is not None and answer.audio.samples.size
    assert "".join(assistant.stream(task, reading="Is it so?", **slots)) == "Ja."


def test_a_reading_is_repeated(assistant: Assistant, spoken: Answer) -> None:
    answer = assistant.run("repeat", reading=TEXT, language="en", check=False)
    assert answer.text == TEXT
    assert same(answer, spoken)


def test_a_recording_is_answered_aloud_in_its_language(
    assistant: Assistant, writes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes("Nein.")
    heard = Heard(Reading("Ist es so?", (), "de"), tuple(assistant.model.vocabulary.encode("Ist es so?")), None)
    monkeypatch.setattr(assistant.model.ear, "hear", lambda clip, of: heard)
    answer = assistant.run("reply", audio=CLIP)
    assert (answer.text, answer.language) == ("Nein.", "de")
    assert answer.audio is not None and answer.audio.samples.size
    assert answer.seconds == pytest.approx(load(CLIP).seconds, abs=0.01)
    french = Heard(Reading("Vraiment ?", (), "fr"), (5,), None)
    monkeypatch.setattr(assistant.model.ear, "hear", lambda clip, of: french)
    with pytest.raises(TaskError, match="speaks English, German, not French"):
        assistant.run("reply", audio=CLIP)


def test_nothing_heard_is_nothing_said(assistant: Assistant) -> None:
    answer = assistant.run("reply", audio=(np.zeros(32_000, np.float32), 16_000))
    assert (answer.text, answer.audio, answer.finish) == ("", None, "no speech")
    assert "say" not in answer.timings


@pytest.mark.parametrize(
    ("task", "slots", "asked"),
    [
        ("translate_text", {"text": "Yes.", "target": "German"}, "into German"),
        ("complete", {"text": "The sea is"}, ""),
    ],
)
def test_a_text_is_answered_from_text_alone(mute: Assistant, task: str, slots: dict, asked: str) -> None:
    answer = mute.run(task, max_new_tokens=4, **slots)
    assert answer.audio is None and answer.reading == slots["text"]
    assert answer.finish in ("stop", "length", "loop")
    assert asked in answer.prompt
    assert (answer.words, answer.seconds, answer.timings["hear"]) == ((), 0.0, 0.0)


# Refusals


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("speak", {}, "needs the slot 'text'"),
        ("speak", {"text": " "}, "empty"),
        ("speak", {"text": TEXT, "language": "French"}, "speaks English, German, not French"),
        ("speak", {"text": TEXT, "language": "Klingon"}, "unknown language 'Klingon'"),
        ("speak", {"text": "😀"}, "no letters that can be spoken"),
        ("speak", {"text": "你好"}, "Chinese"),
        ("speak", {"text": "a " * 3000}, "at most 5,000"),
        ("speak", {"text": TEXT, "reading": "b"}, "leave out reading"),
        ("speak", {"text": TEXT, "audio": CLIP}, "leave out the recording"),
        ("complete", {"text": TEXT, "audio": CLIP}, "leave out the recording"),
        ("translate_text", {"text": TEXT, "target": "de", "audio": CLIP}, "leave out the recording"),
        ("speak", {"text": TEXT, "seed": -1}, "seed must be at least 0"),
        ("speak", {"text": TEXT, "seed": 1 << 32}, "seed must be at most"),
        ("speak", {"text": TEXT, "seed": "1"}, "seed must be a whole number"),
        ("speak", {"text": TEXT, "best_of": 0}, "best_of must be at least 1"),
        ("speak", {"text": TEXT, "best_of": 17}, "best_of must be at most 16"),
        ("speak", {"text": TEXT, "consent": "yes"}, "consent is True or False"),
        ("speak", {"text": TEXT, "voice_text": "Hi."}, "give voice too"),
        ("speak", {"text": TEXT, "voice": CLIP, "consent": True, "voice_text": 5}, "voice_text is a text"),
        ("interpret", {"target": "French", "reading": TEXT}, "not French"),
        ("transcribe", {"audio": CLIP, "voice": CLIP}, "voice is for tasks that speak"),
        ("transcribe", {"audio": CLIP, "seed": 3}, "seed is for tasks that speak"),
        ("answer", {"audio": CLIP, "best_of": 3}, "best_of is for tasks that speak"),
        ("translate", {"audio": CLIP, "target": "de", "consent": True}, "consent is for tasks that speak"),
        ("complete", {"text": TEXT, "voice_text": "a"}, "voice_text is for tasks that speak"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(
    assistant: Assistant, task: str, options: dict, message: str
) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        assistant.stream(task, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_voice_needs_consent(assistant: Assistant) -> None:
    for consent in ({}, {"consent": False}, {"consent": None}):
        with pytest.raises(ConsentError, match="consent=True"):
            assistant.stream("speak", text=TEXT, voice="never-opened.wav", **consent)  # type: ignore[arg-type]


def test_options_that_are_none_are_not_given(mute: Assistant) -> None:
    nothing = dict.fromkeys(("voice", "voice_text", "consent", "seed", "best_of"))
    assert mute.run("ask", reading=TEXT, question="Who?", max_new_tokens=1, **nothing).audio is None


@pytest.mark.parametrize("task", ["speak", "reply", "interpret", "repeat"])
def test_a_model_without_a_voice_says_so(mute: Assistant, task: str) -> None:
    slots = {"speak": {"text": TEXT}, "interpret": {"target": "de"}}.get(task, {})
    with pytest.raises(TaskError, match=f"this model does not speak: task '{task}'"):
        mute.stream(task, **({} if task == "speak" else {"audio": CLIP}), **slots)  # type: ignore[arg-type]


def test_a_damaged_voice_is_told(assistant: Assistant, mute: Assistant, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "config.json").write_text("{}")
    monkeypatch.setattr(mute.model, "folder", tmp_path)
    with pytest.raises(WeightsError, match="config.json is of no voice"):
        mute.run("speak", text=TEXT)


# A given voice


def test_a_given_voice_speaks(assistant: Assistant, spoken: Answer) -> None:
    given: dict[str, Any] = dict(text=TEXT, voice=CLIP, voice_text="Simkins started playing jazz.", consent=True)
    answer = assistant.run("speak", **given)
    assert answer.text == TEXT
    assert not same(answer, spoken)
    assert same(answer, assistant.run("speak", **{**given, "voice": load(CLIP)}))
    assert not same(answer, assistant.run("speak", **{**given, "voice_text": "Simkins started."}))


def test_a_voice_is_read_where_nobody_says_what_is_said(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard(Reading("Some jazz.", (), "en"), (), None)
    monkeypatch.setattr(assistant.model.ear, "hear", lambda clip: heard)
    given: dict[str, Any] = dict(text=TEXT, voice=CLIP, consent=True)
    assert same(assistant.run("speak", **given), assistant.run("speak", **given, voice_text="Some jazz."))


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        ("gone.wav", "gone.wav"),
        (b"no sound", "."),
        (tone(3.0), "no speech is heard"),
        ((np.zeros(48_000, np.float32), 16_000), "no speech is heard"),
    ],
    ids=["missing", "bytes", "tone", "silence"],
)
def test_what_is_no_voice(assistant: Assistant, voice: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        assistant.run("speak", text=TEXT, voice=voice, consent=True)
    assert "\n" not in str(caught.value)


# The best of several ways


def test_the_way_that_is_heard_best_is_kept(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    costs, ways = [3.0, 1.0, 2.0], []

    def unheard(sentence: str, said: Said) -> float:
        assert sentence == TEXT
        ways.append(said)
        return costs[len(ways) - 1]

    monkeypatch.setattr(assistant.aloud, "_unheard", unheard)
    answer = assistant.run("speak", text=TEXT, best_of=3)
    assert len(ways) == 3
    assert answer.audio is not None
    assert np.abs(answer.audio.samples - mark.mark(ways[1].clip).samples).max() < 1e-4
    assert answer.finish == ("length" if ways[1].is_cut else "stop")
    assert len({way.pieces for way in ways}) == 3


def test_the_cost_of_a_way_is_what_the_first_pass_does_not_hear(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every label is as likely, the chance of a single letter is that of its stretches: T (T + 1) / 2 paths."""
    frames = 7
    even = torch.full((1, frames, len(ALPHABET)), -math.log(len(ALPHABET)))
    ear = SimpleNamespace(frames=lambda clip: (clip,), first_pass=lambda clip: (None, even, torch.tensor([frames])))
    monkeypatch.setattr(assistant.aloud, "model", SimpleNamespace(ear=ear))
    said: Any = SimpleNamespace(clip=tone(), is_cut=False)
    wanted = frames * math.log(len(ALPHABET)) - math.log(frames * (frames + 1) / 2)
    assert assistant.aloud._unheard("A.", said) == pytest.approx(wanted, rel=1e-5)
    said.is_cut = True
    assert assistant.aloud._unheard("A.", said) == pytest.approx(wanted + CUT_COST, rel=1e-5)
    assert assistant.aloud._unheard("a longer one", said) == math.inf  # there is no room for so many letters


def test_several_ways_by_the_model_itself(assistant: Assistant, spoken: Answer) -> None:
    answer = assistant.run("speak", text=TEXT, best_of=2)
    assert answer.audio is not None and answer.audio.samples.size
    assert same(answer, assistant.run("speak", text=TEXT, best_of=2))
