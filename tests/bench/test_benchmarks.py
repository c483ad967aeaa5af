"""The benchmarks on systems whose answers are known: figures, bars and files come out as they must."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import (
    bad_input,
    clips,
    equality,
    follow,
    questions,
    report,
    silence,
    speed,
    transcribe,
    translate,
    words,
)
from speechllm.audio.clip import Clip
from speechllm.data import corpora
from speechllm.data.corpora import Example
from speechllm.evaluation import whisper_base
from speechllm.reading import Word


class Listener:
    """Answers by a function of the options; stands for an assistant and for the peer."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def run(self, task: str, audio=None, **options):
        text = self.answer(task, audio, options)
        found = tuple(Word(word, 0.2 * n, 0.2 * n + 0.2, 1.0) for n, word in enumerate(text.split()))
        return SimpleNamespace(text=text, reading=options.get("reading", text), words=found)

    def transcribe(self, samples, language, vad=False) -> str:
        return self.answer("transcribe", samples, {"language": language})

    def words(self, samples, language):
        return self.run("transcribe", samples).words


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Two clips of a made set, and the file into which a benchmark writes."""
    examples = [
        Example(tmp_path / f"{n}.wav", text, "en", "eval", seconds=3.0)
        for n, text in enumerate(("RED GREEN BLUE WHITE", "dogs cats cows hens"))
    ]
    sounds = {str(one.audio): Clip(np.full(48_000, n, np.float32), 16_000) for n, one in enumerate(examples)}
    monkeypatch.setattr(clips, "spoken", lambda name, limit=None, lang=None: examples[:limit])
    monkeypatch.setattr(clips, "read", lambda path: sounds[str(path)])
    return tmp_path / "out.json"


def systems(monkeypatch, module, ours, peer=None) -> None:
    monkeypatch.setattr(report, "assistant", lambda options: Listener(ours))
    if peer:
        monkeypatch.setattr(module, "WhisperBase", lambda threads: Listener(peer))


def test_error_rates_are_those_of_the_answers(monkeypatch, made):
    said = ("Red, green, blue, white.", "Dogs cats cows hens.")

    def ours(task, audio, options):
        text = said[int(audio.samples[0])]
        return text.replace("white", "black") if options.get("reader") == "ctc" else text

    systems(monkeypatch, transcribe, ours, lambda task, samples, options: said[int(samples[0])].split()[0])
    transcribe.main(["--json", str(made), "--sets", "librispeech_test_other"])
    row, whole = json.loads(made.read_text())["table"]
    assert (row["pocket"], row["first pass"], row["whisper base"]) == (0.0, 12.5, 75.0)
    assert row["clips"] == 2
    assert whole["set"] == "all"


def test_bars_compare_with_the_peer_in_the_same_run(monkeypatch, made, capsys):
    systems(monkeypatch, transcribe, lambda *_: "nothing right", lambda *_: "red green blue white")
    transcribe.main(["--json", str(made), "--sets", "common_voice_v1_en"])
    bars = {bar["figure"]: bar for bar in json.loads(made.read_text())["bars"]}
    assert bars["WER common_voice_v1_en, against Whisper base + 1"]["limit"] == 51.0
    assert not bars["WER common_voice_v1_en, against Whisper base + 1"]["is_met"]
    assert "MISSED  WER common_voice_v1_en" in capsys.readouterr().out


def test_detecting_gives_no_language(monkeypatch, made):
    given = []

    def hear(task, audio, options):
        given.append(options.get("language"))
        return ""

    systems(monkeypatch, transcribe, hear, hear)
    transcribe.main(["--json", str(made), "--sets", "librispeech_test_other", "--detect"])
    assert set(given[-6:]) == {None}


def test_medians_take_turns():
    order: list[str] = []
    found = speed.medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert set(found) == {"a", "b"}


def test_clips_of_a_length_are_of_that_length(monkeypatch, made):
    found = clips.of_length(clips.spoken("any"), 5.0, 1)
    assert [clip.seconds for clip in found] == [5.0]
    assert set(np.unique(found[0].samples)) == {0.0, 1.0}
    with pytest.raises(ValueError, match="too small"):
        clips.of_length(clips.spoken("any"), 5.0, 2)


def test_noise_has_its_level():
    assert not clips.noise(1.0, float("-inf")).samples.any()
    level = 20 * np.log10(np.sqrt(np.mean(clips.noise(5.0, -40.0).samples ** 2)))
    assert level == pytest.approx(-40, abs=0.1)


def test_inventions_are_counted(monkeypatch, made):
    monkeypatch.setattr(silence, "recordings", lambda name: [("a", clips.noise(1, -20)), ("b", clips.noise(1, -90))])
    systems(monkeypatch, silence, lambda task, audio, _: "Thank you." if abs(audio.samples).max() > 0.1 else "",
            lambda *_: "you")  # fmt: skip
    silence.main(["--json", str(made)])
    found = json.loads(made.read_text())
    counted = {row["not empty"]: (row["pocket"], row["whisper base"]) for row in found["table"]}
    assert counted == {"silence": (0, 10), "noise": (1, 2), "music": (1, 2)}
    assert [one["clip"] for one in found["invented"]] == ["a", "a"]


def test_times_of_words_are_checked():
    said = [Word("a", 0.0, 0.5, 1.0), Word("b", 0.4, 0.8, 1.0), Word("c", 0.9, 1.2, 1.0)]
    assert words.in_order(said) == 2
    assert [words.is_inside(word, 1.0) for word in said] == [True, True, False]
    assert words.in_gap(said, 0.5, 1.0) == 1
    other = [Word("A,", 0.1, 0.5, 1.0), Word("x", 0.5, 0.6, 1.0), Word("c", 0.95, 1.2, 1.0)]
    assert words.distances(said, other) == pytest.approx([0.1, 0.05])


def test_words_are_drawn(monkeypatch, made, tmp_path):
    systems(monkeypatch, words, lambda *_: "one two three", lambda *_: "one two four")
    monkeypatch.setattr(words, "DRAWN", (("any", "en", 0),))
    words.main(["--json", str(made), "--drawings", str(tmp_path)])
    row = json.loads(made.read_text())["table"][0]
    assert (row["words"], row["inside %"], row["in order %"]) == (6, 100, 100)
    assert row["median s"] == pytest.approx(0.2)
    assert row["from Whisper's, median s"] == 0.0
    assert (tmp_path / "words_1.png").stat().st_size > 1000


def test_translations_are_scored_by_direction(monkeypatch, made):
    rows = [
        {"id": "a", "audio": "a", "text": "the new number is", "lang": "en", "translation": {"es": "El número es"}},
        {"id": "b", "audio": "b", "text": "El numero nuevo", "lang": "es", "translation": {"en": "The new number is"}},
        {"id": "c", "audio": "c", "text": "beep", "lang": "en", "translation": {"es": "bip"}},
    ]  # fmt: skip
    monkeypatch.setattr(translate.phone_prompts, "rows", lambda split: iter(rows))
    monkeypatch.setattr(translate.corpora, "texts", lambda name: [{"lang": "es", "text": "El número"}] * 9)
    monkeypatch.setattr(translate, "DIRECTIONS", [("en", "es"), ("es", "en")])
    read = []

    def answer(task, audio, options):
        read.append(options.get("reading"))
        right = {"es": "El numero es", "en": "The new number is"}[options["target"]]
        return right if audio is None else "xyz"

    systems(monkeypatch, translate, answer)
    translate.main(["--json", str(made)])
    into, out_of, mean = json.loads(made.read_text())["table"]
    assert (into["prompts"], out_of["prompts"]) == (1, 1)
    assert (into["from text"], mean["from text"]) == (100, 100)
    assert into["from clip"] < 10
    assert "El número nuevo" in read


def test_questions_are_right_by_alias(monkeypatch, made):
    rows = [{"question": f"3. who is it{n} ?", "answers": ["Ann"]} for n in range(3)]
    monkeypatch.setattr(questions.corpora, "texts", lambda name: rows)
    monkeypatch.setattr(questions, "Speaker", lambda: SimpleNamespace(say=lambda text: text))
    systems(monkeypatch, questions, lambda task, audio, options: "Ann." if "1" in (audio or "1") else "Bob")
    questions.main(["--json", str(made)])
    found = json.loads(made.read_text())
    assert [row["right"] for row in found["table"]] == [1, 3, 1]
    assert found["bars"][0]["value"] == pytest.approx(100 / 3)
    assert questions.written("3. who is it ?") == "Who is it?"


def test_instructions_are_checked(monkeypatch, made):
    items = [
        {"audio": "a", "text": "good day", "operation": operation, "instruction": operation, "arguments": {},
         "answer": answer}
        for operation, answer in (("upper_case", "GOOD DAY"), ("count_words", "2"))
    ]  # fmt: skip
    monkeypatch.setattr(follow.instruction_items, "items", lambda count, seed: iter(items))
    systems(monkeypatch, follow, lambda task, audio, options: "GOOD DAY" if audio else "2")
    follow.main(["--json", str(made)])
    shares = {row["operation"]: (row["followed from clip %"], row["followed from text %"])
              for row in json.loads(made.read_text())["table"]}  # fmt: skip
    assert shares == {"upper_case": (100, 0), "count_words": (0, 100), "all": (50, 50)}


def test_equal_ways_do_not_differ(tiny):
    made = [(clips.noise(0.5, -20, seed), "en") for seed in range(3)]
    found = [*equality.padding(tiny, made), equality.drafted(tiny, made)]
    assert [one.differ for one in found] == [0, 0, 0]
    plain, draft = found[-1].passes
    assert 0 < draft <= plain


def test_bad_recordings_are_made(tmp_path):
    made = bad_input.recordings(tmp_path)
    assert len(made) >= 25
    assert all(expected in ("answer", "refused", "either") for _, expected in made.values())
    assert not made["a missing file"][0].exists()
    assert made["empty file"][0].stat().st_size == 0


def test_faults_are_named():
    case = bad_input.Case("", (), "refused")
    fine = bad_input.Outcome(1, 1.5, 0.1, "", ["speechllm: no"])
    assert bad_input.faults(case, fine, 1.0, 5.0) == []
    broken = bad_input.Outcome(0, 9.0, 0.1, "a\nb\n", ["Traceback (most recent call last):"])
    found = ["exit code 0", "traceback", "2 lines", "1 lines on standard error", "late"]
    assert bad_input.faults(case, broken, 1.0, 5.0) == found

    silent = bad_input.Outcome(0, 1.5, 0.1, "{}", ["speechllm: zero.wav: no speech was heard"])
    assert bad_input.faults(bad_input.Case("", (), "answer"), silent, 1.0, 5.0) == []


def test_a_limit_leaves_the_results_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    options = report.parser("text", "any").parse_args(["--limit", "1"])
    report.finish("any", options, ("a", "b"), [["x", 0.0]])
    assert list(tmp_path.iterdir()) == []
    options = report.parser("text", "any").parse_args([])
    found = report.finish("any", options, ("a", "b"), [["x", 0.25], ["y", None]])
    assert json.loads((tmp_path / "any.json").read_text()) == found
    assert {"processor", "cores", "load_at_the_end"} <= set(found["hardware"])
    assert "x  0.250" in capsys.readouterr().out


def test_the_peer_has_the_catalogues_weights():
    found = whisper_base.recipe()
    assert set(found.files) == set(whisper_base.FILES)
    assert found.sha256 == whisper_base.WHISPER_BASE[0].sha256
    members = [Path(member).name for package in found.packages for member in package.members]
    assert {name for parts in found.files.values() for name in parts} == set(members)


def test_sets_give_their_spoken_evaluation_clips(monkeypatch, tmp_path):
    folder = tmp_path / "speech" / "some"
    folder.mkdir(parents=True)
    rows = [
        {"audio": "a.ogg", "text": "ja", "lang": "de", "split": "eval"},
        {"audio": "b.ogg", "text": "yes", "lang": "en", "split": "train"},
        {"audio": "c.ogg", "text": None, "lang": "en", "split": "eval"},
        {"audio": "d.ogg", "text": "no", "lang": "en", "split": "eval"},
    ]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setenv(corpora.FOLDER_VARIABLE, str(tmp_path))
    assert [one.text for one in clips.spoken("some")] == ["ja", "no"]
    assert [one.text for one in clips.spoken("some", lang="en")] == ["no"]
    assert [one.text for one in clips.spoken("some", 1)] == ["ja"]
