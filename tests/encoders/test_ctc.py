"""CTC: the alphabet, greedy reading, and alignment against brute force and PyTorch's own loss."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from speechllm.encoders.ctc import (
    ALPHABET,
    BLANK,
    Characters,
    CTCHead,
    align,
    greedy,
    token_spans,
    word_times,
)
from speechllm.errors import DataError

SMALL = Characters(" ab")  # blank 0, space 1, a 2, b 3


def random_scores(frames: int, vocabulary: int, seed: int = 0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, vocabulary, generator=generator, dtype=torch.float64).log_softmax(-1).numpy()


def collapse(path) -> tuple:
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def spoken(drawn: str, characters: Characters = ALPHABET, sure: float = 0.9) -> np.ndarray:
    """Log-posteriors (T, V) of a clip drawn one character a frame, `_` for blank."""
    scores = np.full((len(drawn), len(characters)), (1 - sure) / (len(characters) - 1))
    for frame, character in enumerate(drawn):
        scores[frame, BLANK if character == "_" else characters.letters.index(character) + 1] = sure
    return np.log(scores)


# The alphabet


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Don’t STOP!", "don't stop"),
        ("  well-known — truth ", "well known truth"),
        ("Straße, Äpfel; œuvre: ¿Niño?", "straße äpfel œuvre niño"),
        ("Příliš žluťoučký kůň", "příliš žluťoučký kůň"),
        ("Ёлка и Йод", "ёлка и йод"),
        ("cafe\u0301", "café"),
        ("ő ﬁ ṩ İstanbul", "o fi s istanbul"),
        ("it’s 5:45, n.b. 3/4", "it's 545 nb 3 4"),
        ("日本 ok 🙂", "ok"),
        ("…?!", ""),
    ],
)
def test_normalise(text, normalised):
    assert ALPHABET.normalise(text) == normalised
    assert ALPHABET.decode(ALPHABET.encode(text)) == normalised


def test_ids_are_stable():
    assert BLANK == 0 and ALPHABET.encode("a 'b") == [3, 1, 2, 4] and ALPHABET.encode("zяё") == [28, 118, 119]
    assert len(ALPHABET) == len(ALPHABET.letters) + 1
    with pytest.raises(DataError):
        Characters("aba")


@settings(max_examples=200)
@given(st.lists(st.text(alphabet="aB ñé-’,.7–ж\u0301日", max_size=4), max_size=6))
def test_pieces_give_the_labels_of_the_joined_text(pieces):
    pieces = [piece.lstrip("\u0301") for piece in pieces]  # a letter split across pieces is the documented exception
    labels, owners = ALPHABET.encode_pieces(pieces)
    assert labels.tolist() == ALPHABET.encode("".join(pieces))
    assert (np.diff(owners) >= 0).all()


# Greedy reading


def test_greedy_joins_repeats_and_drops_blanks():
    drawn = " _hhe_l_llo_  _ wo_"
    scores = torch.tensor(np.stack([spoken(drawn), spoken("_" * len(drawn))]), dtype=torch.float32)
    first, second = greedy(scores, torch.tensor([len(drawn), len(drawn)]))
    assert first.text == "hello wo" and second.text == ""
    assert first.spans.tolist() == [[2, 4], [4, 5], [6, 7], [8, 10], [10, 11], [12, 14], [16, 17], [17, 18]]
    assert first.confidences == pytest.approx([0.9] * 8) and second.spans.shape == (0, 2)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 3))
def test_greedy_equals_the_collapsed_path(path, padding):
    scores = F.one_hot(torch.tensor(path + [2] * padding, dtype=torch.long), 4).float()[None] * 9
    (spelling,) = greedy(scores.log_softmax(-1), torch.tensor([len(path)]), SMALL)
    assert spelling.text == " ".join(SMALL.decode(collapse(path)).split())
    assert len(spelling.text) == len(spelling.spans) == len(spelling.confidences)
    for letter, (start, end) in zip(spelling.text, spelling.spans, strict=True):
        assert set(path[start:end]) == {SMALL.letters.index(letter) + 1}


def test_head_gives_log_probabilities():
    head = CTCHead(8)
    scores = head(torch.randn(2, 5, 8))
    assert scores.shape == (2, 5, len(ALPHABET)) and scores.dtype == torch.float32
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 5))
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.randn(2, 5, 8)).dtype == torch.float32


# Alignment

LABELS = [(2,), (2, 3), (2, 2), (2, 1, 3), (3, 3, 2), (2, 2, 2)]


def path_of(spans: np.ndarray, labels, frames: int) -> list[int]:
    path = [BLANK] * frames
    for label, (start, end) in zip(labels, spans, strict=True):
        path[start:end] = [label] * (end - start)
    return path


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("seed", range(5))
def test_align_finds_the_likeliest_of_all_paths(labels, seed):
    scores = random_scores(6, 4, seed)
    score = lambda path: sum(scores[t, label] for t, label in enumerate(path))  # noqa: E731
    every = [path for path in itertools.product(range(4), repeat=6) if collapse(path) == labels]
    found = path_of(align(scores, labels), labels, 6)
    assert collapse(found) == labels
    assert score(found) == pytest.approx(max(map(score, every)))


@pytest.mark.parametrize("labels", LABELS)
def test_brute_force_and_ctc_loss_agree_on_the_trellis(labels):
    """The sum over the same paths is PyTorch's loss, so the enumeration is the CTC trellis."""
    scores = random_scores(6, 4)
    total = defaultdict(float)
    for path in itertools.product(range(4), repeat=6):
        total[collapse(path)] += math.exp(sum(scores[t, label] for t, label in enumerate(path)))
    loss = F.ctc_loss(
        torch.tensor(scores)[:, None],
        torch.tensor([labels]),
        [6],
        [len(labels)],
        reduction="sum",
        zero_infinity=False,
    )
    assert math.exp(-float(loss)) == pytest.approx(total[labels])


def test_align_equals_ctc_loss_when_one_path_has_all_the_mass():
    drawn, labels = "aab_b__ a_", (2, 3, 3, 1, 2)
    scores = spoken(drawn, SMALL, sure=1 - 1e-9)
    spans = align(torch.tensor(scores), labels)
    assert spans.tolist() == [[0, 2], [2, 3], [4, 5], [7, 8], [8, 9]]
    best = sum(scores[t, label] for t, label in enumerate(path_of(spans, labels, len(drawn))))
    loss = F.ctc_loss(torch.tensor(scores)[:, None], torch.tensor([labels]), [len(drawn)], [5], reduction="sum")
    assert -best == pytest.approx(float(loss), abs=1e-6)


def test_align_without_a_path_spreads_the_labels():
    assert align(random_scores(4, 4), [2, 2, 2]).tolist() == [[0, 1], [1, 2], [2, 4]]  # needs 5 frames
    assert align(random_scores(2, 4), [2, 3, 2, 3]).tolist() == [[0, 0], [0, 1], [1, 1], [1, 2]]
    assert align(np.zeros((0, 4)), [2, 3]).tolist() == [[0, 0], [0, 0]]
    impossible = np.full((4, 4), -np.inf)
    impossible[:, BLANK] = 0.0
    assert align(impossible, [2, 3]).tolist() == [[0, 2], [2, 4]]


def test_align_with_no_or_wrong_labels():
    assert align(random_scores(4, 4), []).shape == (0, 2)
    for labels in ([0], [4], [2, -1]):
        with pytest.raises(DataError, match="1 to 3"):
            align(random_scores(4, 4), labels)


# Words and tokens


def test_word_times_of_the_text_as_written():
    drawn = "__hel_lo__ world__   i_t's_"
    words = word_times("Hello, world – it's", spoken(drawn), frame_rate=10.0)
    assert [(word.text, word.start, word.end) for word in words] == [
        ("Hello,", 0.2, 0.8),
        ("world", 1.1, 1.6),
        ("–", 1.6, 2.1),
        ("it's", 2.1, 2.6),
    ]
    assert [word.confidence for word in words] == pytest.approx([0.9, 0.9, 0.0, 0.9])


def test_digits_that_were_said_as_words_get_the_gap():
    words = word_times("i am 42 now", spoken("i_am__forty_two__now", sure=1 - 1e-6), frame_rate=10.0)
    assert [(word.text, word.start, word.end) for word in words][2:] == [("42", 0.4, 1.7), ("now", 1.7, 2.0)]
    spelled = word_times("i am 42 now", spoken("i_am___ _4__2___ now"), frame_rate=10.0)
    assert (spelled[2].start, spelled[2].end, spelled[2].confidence) == (0.9, 1.3, pytest.approx(0.9))


def test_words_without_letters_at_the_ends_and_in_a_row():
    words = word_times("« ¿ si ! ?", spoken("____si__"), frame_rate=1.0)
    assert [(word.start, word.end) for word in words] == [(0, 2), (2, 4), (4, 6), (6, 7), (7, 8)]
    assert [(word.start, word.end) for word in word_times("– –", spoken("____"), 1.0)] == [(0, 2), (2, 4)]
    assert word_times("  ", spoken("____"), 1.0) == ()


WORDS = st.sampled_from(["Hello,", "–", "42", "don't", "ñandú", "a", "日本", "x.", "Straße", "-"])


@settings(max_examples=150)
@given(st.lists(WORDS, max_size=12), st.integers(0, 60), st.integers(0, 9))
def test_times_are_in_order_and_inside_the_clip(words, frames, seed):
    found = word_times(" ".join(words), random_scores(frames, len(ALPHABET), seed), 25.0)
    assert [word.text for word in found] == words
    times = [time for word in found for time in (word.start, word.end)]
    assert times == sorted(times)
    assert not times or (times[0] >= 0 and times[-1] <= frames / 25.0)
    assert all(0 <= word.confidence <= 1 for word in found)


def test_token_spans_of_a_tokenizers_pieces():
    drawn = "__hel_lo__ world__"
    pieces = ["Hel", "lo", ",", " ", "wor", "ld", "", "!"]
    spans = token_spans(pieces, spoken(drawn))
    assert spans.tolist() == [[2, 5], [6, 8], [8, 10], [10, 11], [11, 14], [14, 16], [16, 17], [17, 18]]
    assert token_spans([], spoken(drawn)).shape == (0, 2)


@settings(max_examples=100)
@given(st.lists(st.text(alphabet="ab ,–", max_size=3), max_size=10), st.integers(0, 40))
def test_token_spans_never_go_back(pieces, frames):
    spans = token_spans(pieces, random_scores(frames, len(ALPHABET)))
    assert spans.shape == (len(pieces), 2)
    edges = spans.ravel().tolist()
    assert edges == sorted(edges) and all(0 <= edge <= frames for edge in edges)
