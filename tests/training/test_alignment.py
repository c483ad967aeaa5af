"""The stage `align`: what stands for letters, and what learns to hear it."""

import torch

from speechllm.encoders.conformer import ConformerConfig
from speechllm.readers.first_pass import FirstPass
from speechllm.training.alignment import HEARD_PAUSE, listener, spelling
from speechllm.woven import labels

TEE, OH = HEARD_PAUSE + 1, HEARD_PAUSE + 2


class Reader:
    """Knows "t" and "o"; a pause it spells as a sound too."""

    def sounds(self, wanted, lang):
        known = {labels("t")[1]: (1,), labels("o")[1]: (2, 1), labels("t")[0]: (2,)}
        return [known.get(label, ()) for label in wanted]


def test_letters_are_spelled_as_sounds_and_pauses_as_pauses() -> None:
    spell = spelling(Reader())
    assert spell("tho to", "fr") == [(TEE,), (), (OH, TEE), (HEARD_PAUSE,), (TEE,), (OH, TEE)]


def test_no_word_is_silent_as_a_whole() -> None:
    assert spelling(Reader())("t hm", "fr") == [(TEE,), (HEARD_PAUSE,), (HEARD_PAUSE,), (HEARD_PAUSE,)]


def test_the_listener_begins_with_what_the_ear_knows() -> None:
    ear = FirstPass(ConformerConfig(8, size=8, layers=1, heads=2)).to(torch.bfloat16).requires_grad_(False)
    made = listener(ear, 5)
    for name, each in ear.conformer.state_dict().items():
        assert torch.equal(made.conformer.state_dict()[name], each.float())
    assert made.head.project.out_features == 1 + HEARD_PAUSE + 5
    assert all(each.requires_grad and each.dtype == torch.float32 for each in made.parameters())
