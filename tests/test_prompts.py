"""Prompt files: parsing, filling, and the wordings that come with the package."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechllm import prompts
from speechllm.errors import TaskError

NAMES = sorted(
    path.relative_to(prompts.data_folder("prompts")).with_suffix("").as_posix()
    for path in prompts.data_folder("prompts").rglob("*.txt")
)


def test_parse_splits_held_out_wordings_and_drops_comments():
    wordings = prompts.parse("# about\n\nSay it.\n  Write it.  \n[Held out]\n# more\nType it.\n")
    assert wordings.train == ("Say it.", "Write it.")
    assert wordings.held_out == ("Type it.",)


lines = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1).map(str.strip)
wording = lines.filter(
    lambda line: line and line[0] != "#" and line.lower() != "[held out]" and line.splitlines() == [line]
)


@given(st.lists(wording), st.lists(wording))
def test_parse_gives_back_what_was_written(train, held_out):
    assert prompts.parse("\n".join([*train, "[held out]", *held_out])) == prompts.Wordings(
        tuple(train), tuple(held_out)
    )


@given(st.text(), st.text())
def test_fill_never_fills_inside_a_value(word, replacement):
    filled = prompts.fill("{word} by {replacement}", {"word": word, "replacement": replacement})
    assert filled == word + " by " + replacement


def test_fill_names_the_missing_slot():
    with pytest.raises(TaskError, match="'target'"):
        prompts.fill("Translate to {target}.", {})


def test_missing_prompt_is_one_line():
    with pytest.raises(TaskError) as error:
        prompts.load("no_such_prompt")
    assert "no_such_prompt" in str(error.value)
    assert "\n" not in str(error.value)


def test_prompt_without_training_wordings_is_refused(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("[held out]\nSay it.\n")
    with pytest.raises(TaskError, match="no wording"):
        prompts.load(path)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_wordings_are_distinct_and_partly_held_out(name):
    wordings = prompts.load(name)
    if name == "follow":  # the wordings of this one are the operations' own
        assert wordings.train == wordings.held_out == ("{instruction}",)
        return
    held_out = {w.lower() for w in wordings.held_out}
    assert len(held_out) == len(wordings.held_out) >= 3
    assert not held_out & {w.lower() for w in wordings.train}
    slots = {prompts.slots_of(w) for w in wordings.train}
    assert {prompts.slots_of(w) for w in wordings.held_out} <= slots
    if name.startswith("follow/"):
        assert len(set(wordings.train)) == len(wordings.train) >= 10


def test_slots_have_letters_digits_and_underscores(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text('{Word} and {word_1} as JSON: {"a": [1]}\n')
    (wording,) = prompts.load(path).train
    assert prompts.slots_of(wording) == {"Word", "word_1"}
    assert prompts.fill(wording, {"Word": "A", "word_1": "B"}) == 'A and B as JSON: {"a": [1]}'


@pytest.mark.parametrize("braces", ["{my word}", "{my-word}", "{1}", "{}", "{ word }", "{2nd}"])
def test_braces_that_are_nearly_a_slot_are_refused(tmp_path, braces):
    path = tmp_path / "mine.txt"
    path.write_text(f"Say it.\n[held out]\nSay {braces}.\n")
    with pytest.raises(TaskError, match="cannot be a slot"):
        prompts.load(path)


@pytest.mark.parametrize("name", ["a\0b", "a\0b.txt", "x" * 5000])
def test_a_prompt_that_no_file_can_be_is_a_task_error(name):
    with pytest.raises(TaskError):
        prompts.load(name)
