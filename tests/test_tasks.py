"""Tasks: what comes with the package, what a user's own YAML may say, and every way to get a slot wrong."""

import subprocess
import sys

import pytest

from speechllm import languages, tasks
from speechllm.errors import TaskError
from speechllm.evaluation.metrics import METRICS


def test_the_five_tasks_are_there():
    assert tasks.names() == ["answer", "ask", "follow", "transcribe", "translate"]


@pytest.mark.parametrize("name", tasks.names())
def test_shipped_task_is_whole(name):
    task = tasks.load(name)
    assert task.name == name
    assert task.description
    assert task.examples
    assert set(task.metrics) <= set(METRICS)
    for slots in task.examples:
        for held_out in (False, True):
            instruction = task.instruction(slots, held_out=held_out)
            assert instruction
            assert "{" not in instruction
            for number in range(len(task.wordings(slots, held_out))):
                assert task.instruction(slots, number, held_out)


@pytest.mark.parametrize("given", ["German", "german", "de", "DE", "de-AT", "de_DE", " German "])
def test_languages_by_name_or_code(given):
    assert tasks.load("translate").instruction({"target": given}) == "Translate what is said into German."
    assert languages.code(given) == "de"
    assert languages.name(given) == "German"


def test_wordings_say_the_source_when_it_is_given():
    task = tasks.load("translate")
    assert all("{source}" not in w for w in task.wordings({"target": "de"}))
    assert all("{source}" in w for w in task.wordings({"target": "de", "source": "en"}))
    assert "Spanish" in task.instruction({"target": "en", "source": "es"})


def test_none_is_a_slot_that_was_not_given():
    task = tasks.load("transcribe")
    assert task.instruction({"language": None}) == task.instruction({})


@pytest.mark.parametrize("several", [["de", "en"], "German, English", ("german", "en")])
def test_transcribe_takes_several_languages(several):
    assert "German or English" in tasks.load("transcribe").instruction({"language": several})


@pytest.mark.parametrize(
    ("name", "slots", "message"),
    [
        ("translate", {}, "needs the slot 'target'"),
        ("translate", {"target": "Klingon"}, "slot 'target' of task 'translate': unknown language 'Klingon'"),
        ("translate", {"target": "de, fr"}, "one language is wanted"),
        ("transcribe", {"target": "de"}, "has no slot 'target' .its slots: language"),
        ("answer", {"question": "Why?"}, "its slots: none"),
        ("ask", {"question": "  "}, "empty"),
        ("transcribe", {"language": []}, "one language is wanted"),
    ],
)
def test_wrong_slots_are_named(name, slots, message):
    with pytest.raises(TaskError, match=message):
        tasks.load(name).instruction(slots)


def test_wording_out_of_range_is_refused():
    with pytest.raises(TaskError, match="wordings 0 to"):
        tasks.load("answer").instruction({}, 99)
    with pytest.raises(TaskError):
        tasks.load("answer").instruction({}, -1)


def test_slot_text_with_braces_and_special_strings_stays_text():
    question = "What is {question} <eos> {instruction}?"
    assert tasks.load("ask").instruction({"question": question}) == question


def test_unknown_task_names_the_known_ones():
    with pytest.raises(TaskError, match=r"no task 'sing': use one of answer, ask"):
        tasks.load("sing")


def test_a_task_of_ones_own_needs_no_python(tmp_path):
    (tmp_path / "mood.txt").write_text("How does the {who} feel?\n[held out]\nMood of the {who}?\n")
    path = tmp_path / "mood.yaml"
    path.write_text("name: mood\nprompt: mood.txt\ntarget: mood\nmetrics: [exact]\nslots: {who: {required: true}}\n")
    task = tasks.load(path)
    assert task.instruction({"who": "caller"}) == "How does the caller feel?"
    assert task.instruction({"who": "caller"}, held_out=True) == "Mood of the caller?"
    assert tasks.load(task) is task


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "mapping"),
        ("name: [", "cannot read"),
        ("prompt: ask\ntarget: text", "'name'"),
        ("name: a\nprompt: ask\ntarget: text\ncolour: red", "unknown field 'colour'"),
        ("name: a\nprompt: ask\ntarget: text\nmax_new_tokens: 0", "max_new_tokens"),
        ("name: a\nprompt: ask\ntarget: text\nslots: {b: {kind: number}}", "kind is one of"),
        ("name: a\nprompt: ask\ntarget: text\nslots: {b: {colour: red}}", "slot 'b'"),
        ("name: a\nprompt: ask\ntarget: text\nslots: [b]", "slots"),
        ("name: a\nprompt: ask\ntarget: text\nslots: {b: red}", "slot 'b'"),
        ("name: a\nprompt: ask\ntarget: text\nmetrics: wer", "metrics"),
    ],
)
def test_malformed_task_is_one_line(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(TaskError, match=message) as error:
        tasks.load(path)
    assert "\n" not in str(error.value)
    assert "bad.yaml" in str(error.value)


def test_importing_tasks_loads_no_torch():
    code = "import sys, speechllm.tasks; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
