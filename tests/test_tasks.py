"""Tasks: what comes with the package, what a user's own YAML may say, and every way to get a slot wrong."""

import inspect
import re
import subprocess
import sys

import pytest

from speechllm import languages, tasks
from speechllm.errors import TaskError
from speechllm.evaluation.metrics import METRICS
from speechllm.request import Speech, checked


def test_the_tasks_are_there():
    hearing = {"answer", "ask", "follow", "transcribe", "translate"}
    speaking = {"speak", "reply", "interpret", "repeat"}
    reading = {"speak", "complete", "translate_text"}
    assert set(tasks.names()) == hearing | speaking | reading
    known = {name: tasks.load(name) for name in tasks.names()}
    assert {name for name, task in known.items() if task.says} == speaking
    assert {name for name, task in known.items() if task.reads} == reading


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


def test_a_task_of_ones_own_reads_and_speaks(tmp_path):
    path = tmp_path / "shout.yaml"
    slots = "slots: {what: {required: true}, tongue: {kind: language}}\n"
    head = "name: shout\nprompt: shout.txt\ntarget: text\nreads: what\nsays: true\nsays_in: tongue\n"
    path.write_text(head + slots)
    (tmp_path / "shout.txt").write_text("Shout.\n")
    task = tasks.load(path)
    assert (task.reads, task.says, task.says_in, task.copies) == ("what", True, "tongue", False)
    request = checked(task, {"what": "Hey!", "tongue": "German", "seed": 4})
    assert (request.reading, request.instruction) == ("Hey!", "Shout.")
    assert request.speech == Speech("de", seed=4)
    assert checked(task, {"what": "Hey!"}).speech == Speech(None)


def test_a_task_that_does_not_speak_has_no_speech():
    request = checked("translate_text", {"text": " Yes. ", "target": "German"})
    assert (request.speech, request.reading) == (None, "Yes.")
    assert checked("transcribe", {}).reading is None


def test_importing_tasks_loads_no_torch():
    code = "import sys, speechllm.tasks; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("deutsch", "de"),
        ("français", "fr"),
        ("FRANCAIS", "fr"),
        ("Español", "es"),
        ("русский", "ru"),
        ("čeština", "cs"),
        ("es_MX", "es"),
        ("pt-BR", "pt"),
    ],
)
def test_languages_by_their_own_name(given, code):
    assert languages.code(given) == code


@pytest.mark.parametrize(
    ("given", "message"),
    [("Germn", "unknown language 'Germn': use German or a code"), ("Klingon", "English, German, .*Dutch or a code")],
)
def test_an_unknown_language_names_near_ones_or_all(given, message):
    with pytest.raises(TaskError, match=message):
        languages.code(given)
    with pytest.raises(TaskError) as error:
        languages.code(given * 1000)
    assert len(str(error.value)) < 200


HEAD = "name: a\nprompt: ask\ntarget: text\n"


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
        (HEAD + "description: 2024-99-99", "cannot read the task .*month must be in 1..12"),
        (HEAD + "description: 2024-09-09", "description"),
        ("[" * 3000, "nested too deep"),
        ("!!timestamp no", "cannot read"),
        (HEAD + "examples: [5]", "an example is a mapping"),
        (HEAD + "examples: [{colour: red}]", "example .*no slot 'colour'"),
        (HEAD + "slots: {b: {kind: language}}\nexamples: [{b: Klingon}]", "unknown language"),
        (HEAD + "metrics: [foo]", "unknown metric 'foo': use wer, cer"),
        (HEAD + "metrics: [[wer]]", "unknown metric"),
        (HEAD + "max_new_tokens: true", "max_new_tokens must be a whole number"),
        (HEAD + 'slots: {b: {required: "no"}}', "slot 'b': required must be true or false, not 'no'"),
        (HEAD + "slots: {b: {description: 5}}", "slot 'b': description must be a text"),
        (HEAD + "slots: {b: red}", "slot 'b': a mapping is wanted, not 'red'"),
        (HEAD + "slots: {b: []}", "slot 'b': a mapping is wanted"),
        (HEAD + "slots: {2b: {}}", "slot '2b': a name has letters"),
        (HEAD + "slots: {b-c: {}}", "slot 'b-c': a name has letters"),
        (HEAD + "slots: {1: {}}", "slot 1: a name has letters"),
        ("name: ''\nprompt: ask\ntarget: text", "'name'"),
        (HEAD + "says: 1", "says is true or false, not 1"),
        (HEAD + 'copies: "yes"', "copies is true or false, not 'yes'"),
        (HEAD + "reads: b", "reads is the name of a slot, not 'b'"),
        (HEAD + "slots: {b: {}}\nreads: b", "reads: the slot 'b' must be required"),
        (HEAD + "slots: {b: {required: true}}\nreads: [b]", "reads is the name of a slot"),
        (HEAD + "slots: {b: {}}\nsays_in: c", "says_in is the name of a slot, not 'c'"),
        (HEAD + "slots: {b: {}}\nsays_in: b", "says_in: the slot 'b' must be of kind language"),
        *[(HEAD + f"slots: {{{name}: {{}}}}", f"slot '{name}': a request takes") for name in sorted(tasks.RESERVED)],
    ],
)
def test_what_a_task_cannot_be_is_one_line_with_its_file(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(TaskError, match=message) as error:
        tasks.load(path)
    assert "\n" not in str(error.value)
    assert "bad.yaml" in str(error.value)
    assert "Slot(" not in str(error.value)


def test_what_a_request_takes_is_reserved():
    from speechllm import request
    from speechllm.assistant import Assistant

    source = inspect.getsource(request.checked) + inspect.getsource(request._speech)
    options = set(re.findall(r'"(\w+)"', source)) - {"language", "attention"}
    arguments = {*inspect.signature(Assistant.run).parameters, *inspect.signature(Assistant.batch).parameters}
    assert {"wording", "reader"} <= options
    assert options | arguments - {"options"} == tasks.RESERVED


@pytest.mark.parametrize("name", ["a\0b", "a\0b.yaml", "x" * 5000, "x" * 5000 + ".yml", "\ud800", "", "/", 5])
def test_a_name_that_no_file_can_have_is_a_task_error(name):
    with pytest.raises(TaskError) as error:
        tasks.load(name)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_an_edited_task_is_read_anew(tmp_path):
    path, prompt = tmp_path / "mood.yaml", tmp_path / "mood.txt"
    path.write_text("name: mood\nprompt: mood.txt\ntarget: mood\n")
    prompt.write_text("How is it?\n")
    task = tasks.load(path)
    assert tasks.load(path) is task
    assert task.instruction({}) == "How is it?"
    prompt.write_text("Which mood is it?\n")
    assert task.instruction({}) == "Which mood is it?"
    path.write_text("name: mood\nprompt: mood.txt\ntarget: mood\nmax_new_tokens: 7\n")
    assert tasks.load(path).max_new_tokens == 7


def test_a_relative_path_is_of_the_folder_one_is_in(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.yaml").write_text(f"name: {name}\nprompt: own.txt\ntarget: text\n")
        (tmp_path / name / "own.txt").write_text(f"Say {name}.\n")
    monkeypatch.chdir(tmp_path / "one")
    first = tasks.load("own.yaml")
    monkeypatch.chdir(tmp_path / "two")
    assert tasks.load("own.yaml").instruction({}) == "Say two."
    assert first.instruction({}) == "Say one."
