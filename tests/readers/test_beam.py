"""Beam search: exhaustive where the beam is wide enough, greedy where it is one, and always within its limit."""

import itertools

import pytest
import torch
from torch import Tensor

from speechllm.encoders.whisper import WhisperConfig
from speechllm.readers import beam
from speechllm.readers.attention import WhisperDecoder

END, PROMPT = 4, [5, 6]  # words are 0 to 3


@pytest.fixture(params=range(4))
def decoder(request: pytest.FixtureRequest) -> WhisperDecoder:
    torch.manual_seed(request.param)
    config = WhisperConfig(size=16, heads=2, decoder_layers=2, feed_forward=32, vocabulary=7, decoder_positions=16)
    made = WhisperDecoder(config).eval().requires_grad_(False)
    made.embed_tokens.weight.mul_(2)  # sharper choices
    return made


def frames() -> tuple[Tensor, Tensor]:
    return torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(7)), torch.tensor([9])


def search(decoder: WhisperDecoder, beams: int, limit: int) -> list[beam.Found]:
    return beam.search(decoder, decoder.begin(*frames()), PROMPT, END, beams, limit)


def score(decoder: WhisperDecoder, words: tuple[int, ...]) -> float:
    """Mean log-probability of the words and the end, by one pass over them all."""
    ids = torch.tensor([[*PROMPT, *words]])
    logits = decoder.logits(decoder(ids, decoder.begin(*frames()), keep_past=False))[0, len(PROMPT) - 1 :, : END + 1]
    after = torch.tensor([*words, END])
    return float(logits.log_softmax(1).gather(1, after[:, None]).mean())


def test_a_wide_beam_finds_the_best_of_all_texts(decoder: WhisperDecoder) -> None:
    ended = [one for one in search(decoder, beams=400, limit=4) if len(one.tokens) < 4]
    every = [words for count in range(4) for words in itertools.product(range(4), repeat=count)]
    expected = {words: score(decoder, words) for words in every}
    assert {one.tokens for one in ended} == set(every)
    assert ended[0].tokens == max(expected, key=expected.__getitem__)
    for one in ended:
        assert one.score == pytest.approx(expected[one.tokens], abs=1e-4)


def test_one_beam_is_greedy(decoder: WhisperDecoder) -> None:
    words: list[int] = []
    for _ in range(6):
        ids = torch.tensor([[*PROMPT, *words]])
        hidden = decoder(ids, decoder.begin(*frames()), keep_past=False)
        token = int(decoder.logits(hidden)[0, -1, : END + 1].argmax())
        if token == END:
            break
        words.append(token)
    assert search(decoder, beams=1, limit=6)[0].tokens == tuple(words)


def test_it_ends_at_the_limit(decoder: WhisperDecoder) -> None:
    assert all(len(one.tokens) <= 3 for one in search(decoder, beams=3, limit=3))
