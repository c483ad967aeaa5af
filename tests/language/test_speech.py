"""Speech rows beside the word pieces, letters and frames, sampling, and the loop that says letters."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from speechllm.encoders.ctc import ALPHABET
from speechllm.errors import DataError
from speechllm.language.base import Language
from speechllm.language.speech import SpeechTokens
from speechllm.model import SpeechLLM
from speechllm.speaking import Piece, Sampler, Sampling, nucleus, say
from speechllm.woven import PAUSE, SILENT, edges, labels, letters, most_steps, silent, spread

SAID = [PAUSE, 5, 6, PAUSE]


@pytest.fixture
def language(tiny: SpeechLLM) -> Language:
    return tiny.language


@pytest.fixture
def tokens(language: Language) -> SpeechTokens:
    torch.manual_seed(0)
    return SpeechTokens(language.size, 16).eval()


def test_a_step_reads_the_one_before_and_its_letter(tokens: SpeechTokens) -> None:
    before, said = torch.tensor([[3, 15], [-1, -1]]), torch.randn(2, tokens.letters.embedding_dim)
    found, rows = tokens.embed(before, said), tokens.embedding.weight
    assert torch.allclose(found[0], rows[3] + rows[16 + 15] + said[0])
    assert torch.allclose(found[1], 2 * rows[32] + said[1])


def test_letters_begin_as_the_word_pieces_of_the_language(
    tiny: SpeechLLM, language: Language, tokens: SpeechTokens
) -> None:
    tokens.begin(language, tiny.vocabulary)
    label = ALPHABET.encode("q")[0]
    row = language.embed(torch.tensor(tiny.vocabulary.encode("q")))[0].float()
    assert torch.allclose(tokens.letters.weight[label], row)


def test_the_loss_of_a_step_is_that_of_its_codes_one_after_another(language: Language, tokens: SpeechTokens) -> None:
    hidden, codes, is_done = torch.randn(1, language.size), torch.tensor([[4, 9]]), torch.tensor([True])
    first = tokens.scores(hidden, codes[:, :0]).log_softmax(-1)[0, 4]
    later = tokens.scores(hidden, codes[:, :1]).log_softmax(-1)[0, 9]
    end = F.logsigmoid(tokens.is_done(hidden, codes))[0]
    wanted = -(first + later) / 2 - end
    assert tokens.loss(hidden, codes, is_done)[0].item() == pytest.approx(wanted.item(), abs=1e-5)


def test_edges_cover_the_clip_in_order() -> None:
    spans = [(3, 8), (10, 14), (16, 18), (30, 33)]
    assert edges("ab c", spans, 40) == [0, 1, 9, 15, 28, 37, 40]
    assert edges("ab c", spans, 41, 2) == [0, 2, 8, 16, 28, 36, 40]


def test_every_letter_has_a_step_even_where_they_crowd() -> None:
    assert edges("abc", [(0, 1), (0, 1), (0, 1)], 10, 2) == [0, 2, 4, 6, 8, 10]
    with pytest.raises(DataError, match="do not fit"):
        edges("abc", [(0, 1), (0, 1), (0, 1)], 9, 2)
    with pytest.raises(DataError):
        edges("", [], 5)


def test_a_silent_letter_has_no_stretch() -> None:
    found = edges("ab cd", [(3, 8), SILENT, (16, 18), (30, 33), SILENT], 40)
    assert found == [0, 1, 10, 10, 28, 37, 37, 40]
    said = edges("a c", [(3, 8), (16, 18), (30, 33)], 40)
    assert sorted(set(found)) == said
    assert spread(range(7), found).count(2) == 0
    with pytest.raises(DataError, match="do not fit"):
        edges("ab", [SILENT, SILENT], 40)


def test_no_word_and_no_pause_is_silent() -> None:
    flags = [True, True, True, True, False, True, True]
    assert silent(labels("et toi"[:5]), flags) == [False, False, False, False, False, True, False]


def test_texts_are_said_in_letters_that_are_known() -> None:
    assert letters("Don't  stop – ﬁne! 😀") == "don't stop fine"
    assert letters("😀") == ""
    assert labels("a b") == [PAUSE, *ALPHABET.encode("a b"), PAUSE]
    assert spread([7, 8], [0, 3, 5]) == [7, 7, 7, 8, 8]
    assert most_steps(5, 0.04) == 12 and most_steps(PAUSE, 0.04) == 25


def test_the_nucleus_is_the_fewest_that_hold_the_share() -> None:
    chances = torch.tensor([0.1, 0.5, 0.05, 0.35])
    assert nucleus(chances, 0.8).tolist() == pytest.approx([0, 0.5, 0, 0.35])
    assert nucleus(chances, 0.3).tolist() == pytest.approx([0, 0.5, 0, 0])
    assert torch.allclose(nucleus(chances, 1.0), chances)


def test_a_code_that_fills_the_window_is_drawn_anew() -> None:
    logits = torch.tensor([4.0, 3.0, 3.0, 3.0])
    sampler = Sampler(Sampling(temperature=1, top_p=0.1, window=5, most=0.6, seed=1))
    drawn = [sampler.draw(logits) for _ in range(400)]
    assert drawn[:5] == [0] * 5
    assert 0.5 < drawn.count(0) / len(drawn) < 0.95


def spoken(
    language: Language, tokens: SpeechTokens, seed: int, silent: tuple[int, ...] = (), **options: float
) -> list[Piece]:
    prompt = language.embed(torch.tensor([2, 7, 9]))
    sampling, is_silent = Sampling(seed=seed, **options), [place in silent for place in range(4)]
    return list(say(language, tokens, prompt, [3, 4], SAID, read(tokens), is_silent, 0.04, sampling))


def read(tokens: SpeechTokens) -> Tensor:
    with torch.no_grad():
        return tokens.read(torch.tensor([SAID]), torch.tensor([0]))[0]


def slow(tokens: SpeechTokens) -> SpeechTokens:
    """The same, that is never done with a letter."""
    torch.nn.init.zeros_(tokens.done.head.weight)
    torch.nn.init.constant_(tokens.done.head.bias, -20.0)
    return tokens


def test_the_same_seed_says_the_same(language: Language, tokens: SpeechTokens) -> None:
    first = spoken(language, tokens, 3)
    assert spoken(language, tokens, 3) == first
    assert any(spoken(language, tokens, seed) != first for seed in (4, 5, 6))
    assert [piece.place for piece in first] == [0, 1, 2, 3]


def test_nothing_takes_longer_than_it_may(language: Language, tokens: SpeechTokens) -> None:
    pieces = spoken(language, slow(tokens), 3)
    assert [len(piece.codes) for piece in pieces] == [50, 24, 24, 50]
    assert [piece.is_cut for piece in pieces] == [False, True, True, False]  # a pause may be as long as it may


def test_a_silent_letter_is_passed_over(language: Language, tokens: SpeechTokens) -> None:
    pieces = spoken(language, slow(tokens), 3, silent=(2,))
    assert [(piece.place, len(piece.codes), piece.is_cut) for piece in pieces] == [
        (0, 50, False), (1, 24, True), (2, 0, False), (3, 50, False)
    ]  # fmt: skip


def test_what_is_said_is_what_one_pass_over_it_predicts(language: Language, tokens: SpeechTokens) -> None:
    pieces = spoken(language, slow(tokens), 0, temperature=0)
    steps = torch.tensor([code for piece in pieces for code in piece.codes]).unflatten(0, (-1, 2))
    places = [piece.place for piece in pieces for _ in piece.codes[::2]]
    before = torch.cat([torch.tensor([[3, 4]]), steps[:-1]])
    with torch.no_grad():
        rows = tokens.embed(before, read(tokens)[places])
        hidden = language(torch.cat([language.embed(torch.tensor([2, 7, 9])), rows])[None])[0, 3:]
    assert torch.equal(tokens.scores(hidden, steps[:, :0]).argmax(-1), steps[:, 0])
    assert torch.equal(tokens.scores(hidden, steps[:, :1]).argmax(-1), steps[:, 1])
