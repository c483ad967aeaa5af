"""The runner, with a fake in place of the model: slots, references, broken rows, the report."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechllm import tasks
from speechllm.errors import AudioError, DataError, TaskError
from speechllm.evaluation import runner


@dataclass
class FakeAnswer:
    text: str


def write(folder, rows):
    path = folder / "manifest.jsonl"
    for name in ("a.ogg", "b.ogg"):
        (folder / name).touch()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(**fields):
    return {"audio": "a.ogg", "text": "Guten Tag.", "lang": "de", "split": "eval", "duration": 2.0, **fields}


def read(folder, name, rows, **options):
    return runner.read(write(folder, rows), tasks.load(name), **options)


def test_transcribe_scores_and_reports(tmp_path):
    rows = read(tmp_path, "transcribe", [row(), row(audio="b.ogg", text="Auf Wiedersehen")])
    said = {"a.ogg": "guten tag", "b.ogg": "auf sehen"}
    seen = []

    def run(task, audio, **slots):
        seen.append((task.name, audio, slots))
        return FakeAnswer(said[audio.name])

    report = runner.evaluate(run, tasks.load("transcribe"), rows, progress=False)
    assert seen[0] == ("transcribe", tmp_path / "a.ogg", {"language": "German"})
    assert report.metrics["wer"] == pytest.approx(25.0)
    assert (report.n, report.errors, report.seconds_of_audio) == (2, 0, 4.0)
    assert report.real_time_factor is not None
    assert report.real_time_factor < 1.0
    report.save(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {"metrics", "signature", "n", "seconds_of_audio", "real_time_factor", "samples"} <= set(saved)
    assert saved["samples"][0] == {
        "audio": "a.ogg", "prompt": "Transcribe the German speech.", "reference": "Guten Tag.",
        "answer": "guten tag", "error": None,
    }  # fmt: skip
    assert "wer" in report.table()
    assert "25.00" in report.table()


def test_rows_are_chosen_by_split_and_language(tmp_path):
    rows = [row(), row(split="train"), row(lang="fr"), row(lang=None)]
    assert len(read(tmp_path, "transcribe", rows)) == 4
    assert len(read(tmp_path, "transcribe", rows, split="eval")) == 3
    assert len(read(tmp_path, "transcribe", rows, split="eval", lang="German")) == 1


def test_a_field_named_like_a_slot_fills_it_and_settings_win(tmp_path):
    (one,) = read(tmp_path, "ask", [row(question="What is said?", answers=["Hello"])])
    assert one.slots == {"question": "What is said?"}
    (one,) = read(tmp_path, "ask", [row(question="What?", answer="Hello")], slots={"question": "Who?"})
    assert (one.slots, one.references) == ({"question": "Who?"}, ("Hello",))


def test_a_source_that_is_no_language_is_not_a_slot(tmp_path):
    (one,) = read(tmp_path, "translate", [row(source="repo:clip.mp3", target="en", translation="Hello.")])
    assert one.slots == {"target": "English", "source": "German"}
    (one,) = read(tmp_path, "transcribe", [row(lang="ja")])
    assert (one.slots, one.lang) == ({}, "ja")


def test_translations_by_language(tmp_path):
    both = {"en": "Hello.", "fr": ["Bonjour.", "Salut."]}
    rows = [row(translation=both), row(translation={"en": "Hi."})]
    english = read(tmp_path, "translate", rows, slots={"target": "en"})
    assert [one.references for one in english] == [("Hello.",), ("Hi.",)]
    found = read(tmp_path, "translate", [*rows, row(), row(target="en", translation="Hi.")], slots={"target": "French"})
    assert found.left_out == 3
    (french,) = found
    assert (french.references, french.lang) == (("Bonjour.", "Salut."), "fr")
    (only,) = read(tmp_path, "translate", rows[1:])
    assert only.slots["target"] == "English"
    with pytest.raises(TaskError, match="needs the slot 'target'"):
        read(tmp_path, "translate", rows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": None}, "line 3: no right answer in the field 'text'"),
        ({"text": []}, "no right answer"),
        ({"text": True}, "no right answer"),
        ({"text": {"de": [3]}}, "no right answer"),
        ({"audio": None}, "line 3: no field 'audio'"),
        ({"audio": 5}, "line 3: audio is the path"),
        ({"audio": "gone.ogg"}, "line 3: there is no recording 'gone.ogg'"),
        ({"audio": ""}, "line 3: there is no recording"),
        ({"audio": "a\0b"}, "line 3: there is no recording"),
        ({"lang": []}, "line 3: lang is"),
        ({"duration": "abc"}, "line 3: duration is a number of seconds, not 'abc'"),
        ({"duration": {"a": 1}}, "line 3: duration"),
        ({"duration": -1}, "line 3: duration"),
        ({"duration": float("nan")}, "line 3: duration"),
        ({"duration": 10**400}, "line 3: duration"),
    ],
)
def test_rows_that_cannot_be_scored_are_named(tmp_path, fields, message):
    path = write(tmp_path, [row(), row(**fields)])
    path.write_text(path.read_text().replace("\n", "\n\n"))  # empty lines count
    with pytest.raises(DataError, match=message):
        runner.read(path, tasks.load("transcribe"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "line 3: not UTF-8"),
        (b"{", "line 3: not JSON"),
        (b"[1]", "line 3: a row is a JSON object"),
        (b"[" * 100_000, "line 3: nested too deep"),
    ],
)
def test_lines_that_are_no_rows_are_named(tmp_path, content, message):
    path = write(tmp_path, [row()])
    path.write_bytes(path.read_bytes() + b"\n" + content + b"\n")
    with pytest.raises(DataError, match=message) as caught:
        runner.read(path, tasks.load("transcribe"))
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_gzip_are_read(tmp_path):
    path = write(tmp_path, [row()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(runner.read(path, tasks.load("transcribe"))) == 1
    packed = tmp_path / "manifest.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert len(runner.read(packed, tasks.load("transcribe"))) == 1
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot read"):
        runner.read(packed, tasks.load("transcribe"))


@pytest.mark.parametrize(("question", "message"), [([1], "line 1: question is a text"), (" ", "question is empty")])
def test_a_field_that_cannot_fill_its_slot_is_named(tmp_path, question, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, "ask", [row(question=question, answer="x")])


def test_an_error_rate_needs_a_word(tmp_path):
    silent = read(tmp_path, "transcribe", [row(text=""), row(text=" ... ")])
    with pytest.raises(DataError, match="no word in the field 'text'"):
        runner.evaluate(lambda *_, **__: FakeAnswer("you"), tasks.load("transcribe"), silent, progress=False)
    rows = [*silent, *read(tmp_path, "transcribe", [row(text="eins zwei")])]
    said = runner.evaluate(lambda *_, **__: FakeAnswer("eins zwei"), tasks.load("transcribe"), rows, progress=False)
    assert said.metrics["wer"] == 200.0, "words where there are none are errors"


def test_rows_of_the_wrong_split_need_no_recording(tmp_path):
    rows = [row(), row(audio="gone.ogg", split="train")]
    assert len(read(tmp_path, "transcribe", rows, split="eval")) == 1


def test_reading_ends_at_the_limit(tmp_path):
    assert len(read(tmp_path, "transcribe", [row(), row(), row(audio="gone.ogg")], limit=2)) == 2


def test_a_broken_clip_counts_as_an_empty_answer(tmp_path):
    rows = read(tmp_path, "transcribe", [row(text="eins zwei"), row(audio="b.ogg", text="drei vier")])

    def run(task, audio, **slots):
        if audio.name == "a.ogg":
            raise AudioError("a.ogg: no audio\nin it")
        return FakeAnswer("drei vier")

    report = runner.evaluate(run, tasks.load("transcribe"), rows, progress=False)
    assert (report.metrics["wer"], report.errors) == (50.0, 1)
    assert report.samples[0].error == "AudioError: a.ogg: no audio in it"
    assert report.samples[0].answer == ""
    assert "a.ogg: AudioError" in report.table()


def test_limit_and_progress_bar(tmp_path, capsys):
    rows = read(tmp_path, "transcribe", [row()] * 5)
    report = runner.evaluate(lambda task, audio, **slots: FakeAnswer(""), tasks.load("transcribe"), rows, limit=3)
    assert report.n == 3
    assert "transcribe" in capsys.readouterr().err


def test_nothing_to_evaluate_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no row"):
        runner.evaluate(lambda task, audio: FakeAnswer(""), tasks.load("transcribe"), [])


def test_seconds_come_from_the_file_when_the_row_has_none(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000, np.float32), 16_000)
    rows = read(tmp_path, "transcribe", [row(audio="a.wav", duration=None), row(duration=None)])
    report = runner.evaluate(lambda task, audio, **s: FakeAnswer(""), tasks.load("transcribe"), rows, progress=False)
    assert report.seconds_of_audio == 0.5


def test_a_task_of_ones_own_is_evaluated(tmp_path):
    (tmp_path / "mood.yaml").write_text("name: mood\nprompt: ask\ntarget: mood\nmetrics: [exact]\n"
                                        "slots: {question: {required: true}}\n")  # fmt: skip
    task = tasks.load(tmp_path / "mood.yaml")
    rows = list(runner.read(write(tmp_path, [row(mood="Happy")]), task, slots={"question": "How?"}))
    report = runner.evaluate(lambda given, audio, **s: FakeAnswer(given.name and "happy"), task, rows, progress=False)
    assert report.metrics == {"exact": 100.0}


def test_a_folder_stands_for_its_manifest(tmp_path):
    write(tmp_path, [row()])
    (one,) = runner.read(tmp_path, tasks.load("transcribe"))
    assert one.audio == Path(tmp_path / "a.ogg")
