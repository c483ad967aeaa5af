"""One decode loop: batches, padding sides and drafts never change a greedy answer (oracle: `generate`)."""

import pytest
import torch

from speechllm.decode import Effort, decode, repeated
from speechllm.language.base import Language
from speechllm.testing import tiny_language

STOPS = frozenset({260})


@pytest.fixture(scope="module", params=["gemma", "chatml"])
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Language:
    return Language.from_pretrained(tiny_language(tmp_path_factory.mktemp(request.param), request.param))


def prompts(language: Language) -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [language.embed(torch.randint(0, 250, (n,))) for n in (3, 11, 7, 1)]


def answers(language: Language, given: list[torch.Tensor], padding: str = "left") -> list[list[int]]:
    out: list[list[int]] = [[] for _ in given]
    for row, token in decode(language, given, STOPS, [20] * len(given), padding=padding):
        out[row].append(token)
    return out


def test_equals_generate(language: Language) -> None:
    torch.manual_seed(5)
    ids = torch.randint(0, 250, (1, 9))
    expected = language.model.generate(ids, max_new_tokens=20, do_sample=False, eos_token_id=260, pad_token_id=0)
    got = answers(language, [language.embed(ids[0])])[0]
    assert got == [token for token in expected[0, 9:].tolist() if token != 260]


@pytest.mark.parametrize("padding", ["left", "right"])
def test_batch_equals_single(language: Language, padding: str) -> None:
    given = prompts(language)
    assert answers(language, given, padding) == [answers(language, [each])[0] for each in given]


@pytest.mark.parametrize(
    "change", ["same", "one replaced", "one left out", "one put in", "all wrong", "too long", "cut"]
)
def test_a_draft_changes_nothing_but_the_effort(language: Language, change: str) -> None:
    prompt = prompts(language)[1]
    plain = answers(language, [prompt])[0]
    drafts = {
        "same": plain,
        "one replaced": [*plain[:4], 17, *plain[5:]],
        "one left out": [*plain[:4], *plain[5:]],
        "one put in": [*plain[:4], 17, *plain[4:]],
        "all wrong": [17] * 9,
        "too long": plain + plain,
        "cut": plain[:6],
    }
    effort = Effort()
    got = [token for _, token in decode(language, [prompt], STOPS, [20], drafts[change], effort=effort)]
    assert got == plain
    assert effort.passes <= len(plain) + 1
    if change == "same":
        assert effort.passes <= 2 and effort.drafted >= len(plain) - 1


def test_a_limit_is_kept_and_said(language: Language) -> None:
    effort = Effort()
    got = list(decode(language, prompts(language)[:1], frozenset(), [5], effort=effort))
    assert len(got) == 5 and effort.finished == [False]


def test_chosen_output_rows_count_in_scores_and_not_in_decoding(language: Language) -> None:
    rows = torch.tensor([5, 9, 200])
    before = answers(language, prompts(language))
    try:
        language.use_rows(rows)
        assert answers(language, prompts(language)) == before
        assert language.columns(torch.tensor([9, 10])).tolist() == [1, -1]
        full = language.model.get_output_embeddings().weight
        hidden = torch.randn(4, language.size)
        assert torch.equal(language.scores(hidden), hidden @ full[rows].T)
    finally:
        language.use_rows(None)


@pytest.mark.parametrize(
    ("answer", "loops"),
    [
        ([7] * 24, True),
        ([7] * 23, False),
        ([1, 2, 3] * 8, True),
        ([1, 2, 3] * 7, False),
        ([9, 9, *([1, 2, 3, 4, 5, 6, 7, 8] * 4)], True),
        (list(range(100)), False),
        ([], False),
    ],
)
def test_an_answer_that_only_repeats_itself_is_a_loop(answer: list[int], loops: bool) -> None:
    assert bool(repeated(answer)) is loops


def test_a_loop_is_left(language: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    effort = Effort()
    monkeypatch.setattr(language, "best", lambda hidden: torch.full((len(hidden),), 5))
    got = list(decode(language, prompts(language)[:1], STOPS, [200], effort=effort))
    both = answers(language, prompts(language)[:2])
    assert len(got) == 24
    assert effort.finished == [False]
    assert [len(each) for each in both] == [20, 20]
