"""Letters in their context: what a vector may depend on."""

import pytest
import torch

from speechllm.text_encoder import TextEncoder, numbers
from speechllm.woven import labels


@pytest.fixture
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(6, 16, layers=2).eval()


ENGLISH = numbers(["en"])


def read(encoder: TextEncoder, text: str, languages: torch.Tensor = ENGLISH) -> torch.Tensor:
    with torch.no_grad():
        return encoder(torch.tensor([labels(text)]), languages)[0]


def test_a_letter_knows_those_near_it_and_no_others(encoder: TextEncoder) -> None:
    one, other = read(encoder, "mat is so far away"), read(encoder, "mate is so far away")
    assert one.shape == (len(labels("mat is so far away")), 6)
    assert (one[1:4] - other[1:4]).abs().amax(-1).min() > 1e-4  # the e is one to three letters on
    assert torch.equal(one[-5:], other[-5:])


def test_a_language_changes_how_letters_sound(encoder: TextEncoder) -> None:
    assert not torch.allclose(read(encoder, "die"), read(encoder, "die", numbers(["de"])))
    assert torch.equal(read(encoder, "die", numbers(["xx"])), read(encoder, "die", numbers([None])))
    assert numbers([None, "en", "de", "tlh"]).tolist() == [0, 1, 2, 0]


def test_padding_changes_nothing(encoder: TextEncoder) -> None:
    short, long = labels("a"), labels("a long one")
    both = torch.tensor([short + [0] * (len(long) - len(short)), long])
    with torch.no_grad():
        found = encoder(both, numbers(["en", "en"]))
    assert torch.allclose(found[0, : len(short)], read(encoder, "a"), atol=1e-6)
    assert not found[0, len(short) :].any()
