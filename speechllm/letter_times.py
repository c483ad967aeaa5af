"""When each letter of a known text is said in a recording: the likeliest path of a CTC head through it.

The head spells what is heard, letters or phonemes. Who asks tells which of its labels stand for a letter, and a
letter that none stands for is silent. (Graves et al. 2006, "Connectionist temporal classification", §3.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from speechllm.encoders.ctc import ALPHABET, align
from speechllm.readers.first_pass import FirstPass
from speechllm.woven import SILENT

Spelled = Sequence[Sequence[int]]  # of each letter the labels that stand for it


def spelled(said: str, lang: str | None = None) -> Spelled:
    """Letters stand for themselves, in any language."""
    return [(label,) for label in ALPHABET.encode(said)]


@dataclass(frozen=True)
class LetterTimes:
    """Finds the frames of letters.

    Args:
        first_pass: what hears, with the head; spell: letters and their language (ISO 639-1) to its labels.
    """

    first_pass: FirstPass
    spell: Callable[[str, str | None], Spelled] = spelled

    @torch.inference_mode()
    def __call__(
        self, hidden: Tensor, lengths: Tensor, said: str, lang: str | None, frame_rate: float
    ) -> list[tuple[int, int]]:
        """(start, end) of each letter, in frames of `frame_rate` (Hz), `woven.SILENT` where it is silent.

        Args:
            hidden: (1, T, F) of the encoder; lengths: (1,); said: the letters (`woven.letters`).
            frame_rate: a multiple of that of the first pass.
        """
        finer = round(frame_rate / self.first_pass.conformer.frame_rate)
        assert finer * self.first_pass.conformer.frame_rate == frame_rate, "the rate is a multiple"
        _, log_probs, _ = self.first_pass(hidden, lengths)
        parts = self.spell(said, lang)
        found = iter((align(log_probs[0], [label for part in parts for label in part]) * finer).tolist())
        return [_joined([next(found) for _ in part]) for part in parts]


def _joined(spans: Sequence[Sequence[int]]) -> tuple[int, int]:
    return (spans[0][0], spans[-1][1]) if spans else SILENT
