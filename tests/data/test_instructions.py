"""Operations of instruction-followed recognition: right answers, and what each check accepts and refuses."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechllm.data import instructions
from speechllm.data.instruction_checks import is_close, sentences, words
from speechllm.data.instructions import OPERATIONS, TRANSLATING, Sources, about, followed, make

TEXT = "The quick fox, said Anna, isn't in the old barn."
TWO = "Password incorrect. Please enter your password again!"

ACCEPTED = [
    ("upper_case", TEXT, {}, "THE QUICK FOX SAID ANNA ISN'T IN THE OLD BARN"),
    (
        "upper_case",
        TEXT,
        {},
        "THE QUICK FOGS, SAID ANNA, ISN'T IN THE OLD BARN.",
    ),  # misheard, but in capitals
    ("lower_case", TEXT, {}, "the quick fox, said anna, isn't in the old barn."),
    ("no_punctuation", TEXT, {}, "The quick fox said Anna isn't in the old barn"),
    ("lower_plain", TEXT, {}, "the quick fox said anna isn't in the old barn"),
    ("title_case", TEXT, {}, "The Quick Fox, Said Anna, Isn't In The Old Barn."),
    ("first_words", TEXT, {"number": "3"}, "The quick fox"),
    ("first_words", TEXT, {"number": "3"}, "the quick fogs."),
    ("last_words", TEXT, {"number": "2"}, "old barn"),
    ("first_word", TEXT, {}, "The"),
    ("last_word", TEXT, {}, "barn."),
    ("nth_word", TEXT, {"n": "3"}, "fox"),
    ("word_after", TEXT, {"word": "said"}, "Anna"),
    ("longest_word", TEXT, {}, "quick"),
    ("count_words", TEXT, {}, "10"),
    ("count_words", TEXT, {}, "Ten words."),
    ("contains", TEXT, {"word": "fox"}, "Yes."),
    ("contains", TEXT, {"word": "wolf"}, "no"),
    ("occurrences", TEXT, {"word": "the"}, "2 times"),
    (
        "replace_word",
        TEXT,
        {"word": "fox", "replacement": "dog"},
        "the quick dog said anna isn't in the old barn",
    ),
    (
        "replace_word",
        TEXT,
        {"word": "fox", "replacement": "***"},
        "The quick ***, said Anna, isn't in the old barn.",
    ),
    ("delete_word", TEXT, {"word": "old"}, "The quick fox, said Anna, isn't in the barn."),
    ("sentences_list", TWO, {}, "- Password incorrect.\n- Please enter your password again!"),
    ("sentences_list", TWO, {}, "• password incorrect\n\n• please enter your password again"),
    ("numbered_list", TWO, {}, "1. Password incorrect.\n2) Please enter your password again!"),
    ("first_sentence", TWO, {}, "Password incorrect."),
    ("last_sentence", TWO, {}, "Please enter your password again"),
    ("one_per_line", "we go home", {}, "We\ngo\nhome."),
    ("comma_separated", "we go home", {}, "we, go, home"),
    ("begin_with", "we go home", {"phrase": "Note:"}, "Note: We go home."),
    ("end_with", "We go home.", {"phrase": "(end)"}, "We go home. (end)"),
    ("quotes", "We go home.", {}, "„We go home.“"),
    ("reverse_words", "we go home", {}, "home go we"),
]
REFUSED = [
    ("upper_case", TEXT, {}, "THE QUICK fox, SAID ANNA, ISN'T IN THE OLD BARN."),
    ("upper_case", TEXT, {}, "THE QUICK FOX."),
    ("lower_case", TEXT, {}, TEXT),
    ("no_punctuation", TEXT, {}, "The quick fox said Anna isn't in the old barn."),
    ("lower_plain", TEXT, {}, "The quick fox said Anna isn't in the old barn"),
    ("title_case", TEXT, {}, TEXT),
    ("first_words", TEXT, {"number": "3"}, "The quick fox said"),
    ("first_words", TEXT, {"number": "3"}, "The quick"),
    ("last_words", TEXT, {"number": "2"}, "The quick"),
    ("first_word", TEXT, {}, "The quick"),
    ("last_word", TEXT, {}, "old"),
    ("word_after", TEXT, {"word": "said"}, "said Anna"),
    ("count_words", TEXT, {}, "9"),
    ("count_words", TEXT, {}, "10 or 11"),
    ("contains", TEXT, {"word": "fox"}, "no"),
    ("contains", TEXT, {"word": "fox"}, "yes it does"),
    ("occurrences", TEXT, {"word": "the"}, "the"),
    ("replace_word", TEXT, {"word": "fox", "replacement": "dog"}, TEXT),
    ("replace_word", TEXT, {"word": "fox", "replacement": "dog"}, "dog"),
    ("delete_word", TEXT, {"word": "old"}, TEXT),
    ("sentences_list", TWO, {}, TWO),
    ("sentences_list", TWO, {}, "- Password incorrect. Please enter your password again!"),
    ("numbered_list", TWO, {}, "1. Password incorrect.\n1. Please enter your password again!"),
    ("first_sentence", TWO, {}, TWO),
    ("last_sentence", TWO, {}, TWO),
    ("one_per_line", "we go home", {}, "we go home"),
    ("comma_separated", "we go home", {}, "we, go home"),
    ("begin_with", "we go home", {"phrase": "Note:"}, "We go home."),
    ("end_with", "We go home.", {"phrase": "(end)"}, "(end)"),
    ("quotes", "We go home.", {}, "We go home."),
    ("reverse_words", "we go home", {}, "we go home"),
]


@pytest.mark.parametrize(("operation", "text", "arguments", "answer"), ACCEPTED)
def test_accepts(operation, text, arguments, answer):
    assert followed(operation, text, answer, arguments)


@pytest.mark.parametrize(("operation", "text", "arguments", "answer"), REFUSED)
def test_refuses(operation, text, arguments, answer):
    assert not followed(operation, text, answer, arguments)


def test_every_operation_is_tried_both_ways():
    tried = set(TRANSLATING) | {"numbers_to_digits", "nth_word", "longest_word"}
    assert {case[0] for case in ACCEPTED} | tried == set(OPERATIONS)
    assert {case[0] for case in REFUSED} | tried == set(OPERATIONS)


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        ("It is 5:45 now.", True),
        ("it is 5:45 no", True),
        ("It is a quarter to six now.", False),
        ("It is 5:46 now.", False),
    ],
)
def test_digits_must_be_the_same(answer, is_right):
    assert followed("numbers_to_digits", "It is a quarter to six now.", answer, {}, "It is 5:45 now.") == is_right


@pytest.mark.parametrize(("answer", "is_right"), [("1,234", True), ("1234", True), ("1 234", True), ("1.235", False)])
def test_thousands_may_be_grouped(answer, is_right):
    assert followed("numbers_to_digits", "one thousand...", answer, {}, "1,234") == is_right


@pytest.mark.parametrize(
    ("operation", "answer", "is_right"),
    [
        ("translate_last", "Bitte versuchen Sie es erneut.", True),
        ("translate_last", "Please try again.", False),
        ("translate_last", "", False),
        ("transcribe_translate", "Please try again.\nBitte versuchen Sie es noch einmal.", True),
        ("transcribe_translate", "Bitte versuchen Sie es erneut.", False),
    ],
)
def test_translations_count_by_chrf(operation, answer, is_right):
    german = "Bitte versuchen Sie es noch einmal."
    expected = german if operation == "translate_last" else f"Please try again.\n{german}"
    assert followed(operation, "Please try again.", answer, {"language": "German"}, expected) == is_right


SOURCES = Sources(
    sentences={"en": ["The old man went home early.", "Nobody saw it, said she.", "Is the window open to the sea?"]},
    numbers={"en": [("a quarter to six", "5:45")]},
    pairs={("en", "de"): [("Good morning.", "Guten Morgen."), ("I see it.", "Ich sehe es.")]},
)


@pytest.mark.parametrize("operation", list(OPERATIONS))
@pytest.mark.parametrize("held_out", [False, True])
def test_items_carry_an_answer_that_follows(operation, held_out):
    rng = random.Random(1)
    items = [make(operation, SOURCES, rng, "en", held_out) for _ in range(40)]
    items = [item for item in items if item is not None]
    assert items
    for item in items:
        assert item.operation == operation
        assert "{" not in item.instruction
        assert followed(operation, item.text, item.answer, item.arguments, item.answer)
        if operation not in (*TRANSLATING, "numbers_to_digits"):
            assert followed(operation, item.text, item.answer, item.arguments)
    filled = {item.instruction for item in items}
    assert len(filled) > 1 or operation == "numbers_to_digits"


def test_items_repeat_by_seed():
    first, second = (make("replace_word", SOURCES, random.Random(3)) for _ in range(2))
    assert first == second


def test_yes_and_no_come_about_as_often():
    rng = random.Random(0)
    answers = [about("contains", text, rng, other="Purple mountains never sleep.").answer for text in [TEXT] * 400]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_no_item_where_an_operation_does_not_apply():
    rng = random.Random(0)
    assert about("first_words", "Yes.", rng) is None
    assert about("last_sentence", "One sentence only.", rng) is None
    assert about("longest_word", "mad cat", rng) is None
    assert about("upper_case", "...", rng) is None


def test_sentences_end_at_marks_but_not_at_titles():
    assert sentences("Mr. Jones came. \"Who?\" Nobody, e.g. me. Ой! Да.") == [
        "Mr. Jones came.", "\"Who?\" Nobody, e.g. me.", "Ой!", "Да.",
    ]  # fmt: skip


@given(st.text())
def test_words_have_no_marks_around_them(text):
    assert all(word[0].isalnum() or word[0] == "_" for word in words(text))


@given(st.text(min_size=1))
def test_a_text_is_close_to_itself_in_any_case(text):
    assert is_close(text, text)
    assert instructions.followed("quotes", "a b c", '"a b c"', {})


@given(st.sampled_from([name for name in OPERATIONS if name not in TRANSLATING]), st.text(), st.text(max_size=80))
def test_no_answer_breaks_a_check(operation, text, answer):
    item = about(operation, text, random.Random(0))
    if item is not None:
        assert isinstance(followed(operation, text, answer, item.arguments), bool)
