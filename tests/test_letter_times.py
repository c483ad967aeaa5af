"""When letters are said: what stands for them decides, and letters that nothing stands for are silent."""

import pytest
import torch

from speechllm.encoders.conformer import ConformerConfig
from speechllm.encoders.ctc import ALPHABET, align
from speechllm.letter_times import LetterTimes, spelled
from speechllm.readers.first_pass import FirstPass
from speechllm.woven import SILENT

LABELS = 6


class Hearing(FirstPass):
    """Hears a row of labels, one a frame of 25 Hz."""

    def __init__(self, heard: list[int]) -> None:
        super().__init__(ConformerConfig(8, size=8, layers=1, heads=2), LABELS)
        self.heard = torch.full((1, len(heard), LABELS), -9.0)
        self.heard[0, range(len(heard)), heard] = 0.0

    def forward(self, hidden, lengths, policy=None):
        return hidden, self.heard.log_softmax(-1), lengths


@pytest.mark.parametrize(
    ("parts", "spans"),
    [
        ([(3,), (5,), (4,)], [(2, 4), (6, 10), (12, 14)]),
        ([(3,), (), (5,), (4,)], [(2, 4), SILENT, (6, 10), (12, 14)]),
        ([(), (3, 5), (4,), ()], [SILENT, (2, 10), (12, 14), SILENT]),
        ([()], [SILENT]),
        ([], []),
    ],
)
def test_a_letter_is_where_its_labels_are(parts, spans) -> None:
    """Heard 0 3 0 5 5 0 4 0 at 25 Hz, asked for at 50 Hz."""
    times = LetterTimes(Hearing([0, 3, 0, 5, 5, 0, 4, 0]), lambda said, lang: parts)
    assert times(torch.zeros(1, 16, 8), torch.tensor([16]), "any", "fr", 50.0) == spans


def test_letters_stand_for_themselves() -> None:
    torch.manual_seed(0)
    first_pass = FirstPass(ConformerConfig(8, size=8, layers=1, heads=2)).eval()
    hidden, lengths = torch.randn(1, 40, 8), torch.tensor([40])
    found = LetterTimes(first_pass)(hidden, lengths, "one two", "en", 25.0)
    with torch.inference_mode():
        _, log_probs, _ = first_pass(hidden, lengths)
    assert found == [tuple(span) for span in align(log_probs[0], ALPHABET.encode("one two")).tolist()]
    assert spelled("a b") == [(label,) for label in ALPHABET.encode("a b")]


def test_what_is_asked_has_to_know_the_language() -> None:
    asked = []
    times = LetterTimes(Hearing([0, 3]), lambda said, lang: asked.append((said, lang)) or [(3,)])
    times(torch.zeros(1, 4, 8), torch.tensor([4]), "é", "fr", 25.0)
    assert asked == [("é", "fr")]
