"""Readings and words move in time without changing otherwise."""

import pytest

from speechllm.reading import Reading, Word


def test_shifted_moves_every_time_and_nothing_else():
    reading = Reading("Hi you", (Word("Hi", 0.1, 0.3, 0.9), Word("you", 0.4, 0.5, 0.7)), "en", 25.0)
    moved = reading.shifted(10.0)
    assert [(word.start, word.end) for word in moved.words] == [
        pytest.approx((10.1, 10.3)),
        pytest.approx((10.4, 10.5)),
    ]
    assert moved.shifted(-10.0).words[1].text == "you" and moved.text == reading.text and moved.language == "en"
    assert reading.words[0].start == 0.1


def test_confidence_is_the_mean_of_the_words():
    assert Reading("a b", (Word("a", 0, 1, 0.5), Word("b", 1, 2, 1.0))).confidence == 0.75
    assert Reading("").confidence == 0.0
