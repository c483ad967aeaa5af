"""Corrupted readings: small, repeatable, and of the right alphabet."""

import random

from hypothesis import given
from hypothesis import strategies as st

from speechllm.data.reading_errors import as_read, skeleton, sound_alikes, unpunctuated

TEXT = "The farm lies behind the old mill, said Anna; nobody lives there now."


def test_misreads_about_as_much_as_asked():
    alikes = sound_alikes(["farm firm form", "mill mall", "lies lose"])
    counts = []
    for seed in range(200):
        read = as_read(TEXT, random.Random(seed), 0.1, alikes).split()
        counts.append(len(set(TEXT.split()) - set(read)))
    assert 1.0 <= sum(counts) / len(counts) <= 3.0


def test_spelling_alone_keeps_every_word():
    for seed in range(200):
        read = as_read(TEXT, random.Random(seed), 0.5)
        assert len(read.split()) == len(TEXT.split())
        assert read[0].isupper()
        assert read[-1] == "."


def test_same_seed_same_reading():
    assert as_read(TEXT, random.Random(5), 0.3) == as_read(TEXT, random.Random(5), 0.3)


def test_words_of_the_same_consonants_sound_alike():
    assert skeleton("farm") == skeleton("Firm") != skeleton("farms")
    assert sound_alikes(["farm firm. Form!"]) == {"frm": ("farm", "firm", "form")}


def test_alphabets_do_not_mix():
    latin, cyrillic = "Ein langes deutsches Wort steht hier", "Здесь стоит длинное русское слово"
    for seed in range(200):
        assert all(letter < "\u0400" for letter in as_read(latin, random.Random(seed), 0.9))
        assert all(letter > "\u0400" for letter in as_read(cyrillic, random.Random(seed), 0.9).replace(" ", ""))


@given(st.text(), st.integers())
def test_any_text_can_be_misread(text, seed):
    assert isinstance(as_read(text, random.Random(seed), 0.3, {}), str)


def test_unpunctuated():
    assert unpunctuated('"Don\'t go," he said - well-known!') == "don't go he said well-known"
    assert unpunctuated("...") == "..."
