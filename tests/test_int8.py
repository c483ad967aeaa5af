"""Weights in 8 bits: close to the exact product, and the LLM's choice of a token unchanged."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from speechllm import int8
from speechllm.encoders.whisper import WhisperConfig
from speechllm.language.base import Language
from speechllm.readers.attention import WhisperDecoder
from speechllm.testing import tiny_language


def test_a_product_is_close_to_the_exact_one() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(96, 64), torch.randn(96), torch.randn(5, 64)
    exact = F.linear(x, weight, bias)
    error = (int8.Int8Rows(weight, bias)(x) - exact).norm() / exact.norm()
    assert 0 < error < 0.02


def test_rows_packed_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(100, 64), torch.randn(100), torch.randn(5, 64)
    whole, plain = int8.Int8Rows(weight, bias)(x), int8.Int8Rows(weight)(x)
    monkeypatch.setattr(int8, "BLOCK", 32)
    assert torch.equal(int8.Int8Rows(weight, bias)(x), whole)
    assert torch.equal(int8.Int8Rows(weight)(x), plain)


def test_a_row_of_zeros_gives_zero() -> None:
    weight = torch.zeros(8, 16)
    assert (int8.Int8Rows(weight)(torch.randn(2, 16)) == 0).all()


def test_the_packed_head_chooses_the_same_tokens(tmp_path: Path) -> None:
    language = Language.from_pretrained(tiny_language(tmp_path, "gemma"))
    torch.manual_seed(1)
    hidden = torch.randn(64, language.size)
    exact = language.best(hidden)
    language.pack()
    assert torch.equal(language.best(hidden), exact)
    assert torch.equal(torch.cat([language.best(row[None]) for row in hidden]), exact)


def test_a_packed_decoder_scores_as_before(tmp_path: Path) -> None:
    torch.manual_seed(2)
    decoder = WhisperDecoder(
        WhisperConfig(size=64, heads=2, decoder_layers=2, feed_forward=128, vocabulary=50, decoder_positions=16)
    ).eval()
    hidden, lengths, ids = torch.randn(1, 20, 64), torch.tensor([20]), torch.tensor([[3, 1, 4]])
    with torch.no_grad():
        exact = decoder.logits(decoder(ids, decoder.begin(hidden, lengths))).log_softmax(-1)
        decoder.pack()
        packed = decoder.logits(decoder(ids, decoder.begin(hidden, lengths))).log_softmax(-1)
    assert (packed - exact).abs().max() < 0.1 * exact.std()
