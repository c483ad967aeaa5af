"""Metrics against their oracles: jiwer, sacrebleu, Whisper's normaliser, SQuAD's rules."""

import jiwer
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from speechllm.errors import TaskError
from speechllm.evaluation import metrics
from speechllm.evaluation.metrics import Result, score

REFERENCES = ["the cat sat on the mat", "a dog ran home", "nobody saw it"]
ANSWERS = ["the cat sat on a mat today", "a dog home", "nobody saw it"]


def results(references, answers, lang="en"):
    return [Result(answer, (reference,), lang) for reference, answer in zip(references, answers, strict=True)]


def test_error_rates_are_jiwers():
    rows = results(REFERENCES, ANSWERS, "de")
    assert score("wer", rows).value == pytest.approx(100 * jiwer.wer(REFERENCES, ANSWERS))
    assert score("cer", rows).value == pytest.approx(100 * jiwer.cer(REFERENCES, ANSWERS))


words = st.lists(st.sampled_from(["ein", "zwei", "drei", "vier"]), min_size=1, max_size=8).map(" ".join)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_error_rates_are_jiwers_on_any_words(pairs):
    references, answers = map(list, zip(*pairs, strict=True))
    assert score("wer", results(references, answers, "de")).value == pytest.approx(100 * jiwer.wer(references, answers))


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("MISTER QUILTER'S COLOUR", "Mr. Quilter's color."),
        ("it's twenty three dollars", "it is $23"),
        ("um, we've organised it", "We have organized it!"),
        ("Hello [laughter] there", "hello there"),
    ],
)
def test_english_goes_through_whispers_normaliser(reference, answer):
    assert score("wer", results([reference], [answer])).value == 0.0


def test_other_languages_keep_their_letters():
    assert metrics.normalised("Größe, ÜBER-Größe!", "de") == "größe über größe"
    assert score("wer", results(["für mich"], ["fur mich"], "de")).value == 50.0


def test_spelling_map_is_whole():
    assert metrics.normalised("colour organised theatre", "en") == "color organized theater"


def test_empty_answers_and_references_count():
    assert score("wer", results(["one two"], [""], "de")).value == 100.0
    assert score("wer", results([""], [""], "de")).value == 0.0
    assert score("wer", results(["", "ein"], ["zwei drei", "ein"], "de")).value == 200.0


def test_the_signature_says_which_normaliser():
    assert "whisper-english" in score("wer", results(["a"], ["a"])).signature
    assert "whisper-basic" in score("wer", results(["a"], ["a"], "fr")).signature


def test_bleu_and_chrf_are_sacrebleus():
    rows = results(REFERENCES, ANSWERS)
    assert score("bleu", rows).value == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score)
    assert score("chrf", rows).value == pytest.approx(sacrebleu.corpus_chrf(ANSWERS, [REFERENCES]).score)
    assert "version:" in score("bleu", rows).signature
    assert score("chrf", rows).signature.startswith("nrefs:1")


def test_further_references_help_where_there_are_some():
    first, second = Result("the dog", ("a hound", "the dog")), Result("a cat", ("a cat",))
    assert score("chrf", [first, second]).value == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("answer", "aliases", "is_exact", "holds"),
    [
        ("Paris.", ["paris"], True, True),
        ("The Beatles", ["Beatles"], True, True),
        ("It is in Paris, France.", ["Paris"], False, True),
        ("Parisian", ["Paris"], False, False),
        ("São Paulo", ["são paulo"], True, True),
        ("«Berlin»", ["Berlin"], True, True),
        ("", ["Paris"], False, False),
        ("anything", ["the"], False, False),
    ],
)
def test_answers_match_aliases(answer, aliases, is_exact, holds):
    assert metrics.matches_exactly(answer, aliases) == is_exact
    assert metrics.holds_alias(answer, aliases) == holds
    rows = [Result(answer, tuple(aliases))]
    assert score("exact", rows).value == 100.0 * is_exact
    assert score("alias", rows).value == 100.0 * holds


def test_followed_checks_the_form_of_the_operation():
    row = {"operation": "upper_case", "text": "we go home", "arguments": {}}
    assert score("followed", [Result("WE GO HOME", ("WE GO HOME",), row=row)]).value == 100.0
    assert score("followed", [Result("We go home", ("WE GO HOME",), row=row)]).value == 0.0


def test_followed_without_an_operation_is_to_the_letter():
    assert score("followed", [Result("yes ", ("yes",)), Result("Yes", ("yes",))]).value == 50.0


def test_unknown_metric_names_the_known():
    with pytest.raises(TaskError, match="use wer, cer"):
        score("meteor", [])


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_no_rows_is_no_crash(name):
    assert score(name, []).value == 0.0


def test_accents_can_be_dropped():
    assert metrics.without_accents("número así") == "numero asi"
