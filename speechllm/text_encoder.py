"""Letters to vectors that know their neighbours: how a letter sounds, the letters around it tell, and whether it does.

Convolutions over embeddings, five letters wide (the encoder of Shen et al. 2018, "Tacotron 2", §2.2), residual here,
and the language beside them. The whole sentence is known before its first letter is said, so even speech that
leaves letter by letter knows what comes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.encoders.ctc import ALPHABET, BLANK
from speechllm.languages import NAMES

TAPS = 5
PLACES = 2  # for phonemes a letter
LANGUAGES = tuple(NAMES)  # trained embeddings hold one row each in this order: new languages go to the end


class TextEncoder(nn.Module):
    """Labels of `woven.labels` to vectors.

    Args:
        size: H, of the vectors; width: inside; layers: of convolutions, two letters of context a side each.
    """

    def __init__(self, size: int, width: int, layers: int = 3) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(ALPHABET), width)
        self.languages = nn.Embedding(1 + len(LANGUAGES), width)  # the first: not told
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, TAPS, padding=TAPS // 2) for _ in range(layers))
        self.out = nn.Linear(width, size)

    def forward(self, labels: Tensor, languages: Tensor) -> Tensor:
        """Vectors (B, L, H) of labels (B, L), padded with 0, in languages (B,) of `numbers`."""
        is_letter = (labels != BLANK).unsqueeze(-1)
        hidden = self.letters(labels) + self.languages(languages)[:, None]
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            heard = (norm(hidden) * is_letter).transpose(1, 2)
            hidden = hidden + F.gelu(convolution(heard)).transpose(1, 2)
        return self.out(hidden) * is_letter


class PhonemeHead(nn.Module):
    """Spells the phonemes that letters are read as, by CTC (Graves et al. 2006): `PLACES` labels a letter.

    Args:
        size: H, of the letters' vectors; signs: that phonemes are written with.
        marks: those of them that are no sounds of their own, as for stress and length.
    """

    def __init__(self, size: int, signs: int, marks: Sequence[int] = ()) -> None:
        super().__init__()
        self.marks = tuple(marks)
        self.project = nn.Linear(size, PLACES * (1 + signs))

    def forward(self, letters: Tensor) -> Tensor:
        """Scores (B, L, PLACES, 1 + signs) of vectors (B, L, H), the blank's first."""
        return self.project(letters).unflatten(-1, (PLACES, -1))

    def sounds(self, letters: Tensor) -> Tensor:
        """(B, L, PLACES) the signs of sounds that begin at letters (B, L, H), `BLANK` elsewhere."""
        best = self(letters).argmax(-1).flatten(1)
        goes_on = F.pad(best[:, 1:] == best[:, :-1], (1, 0))
        is_mark = torch.isin(best, torch.tensor(self.marks, device=best.device, dtype=best.dtype))
        return best.masked_fill(goes_on | is_mark, BLANK).unflatten(1, (-1, PLACES))


def numbers(languages: Sequence[str | None], device: torch.device | None = None) -> Tensor:
    """Languages (ISO 639-1) as `TextEncoder` counts them; 0 for None and for others."""
    known = [1 + LANGUAGES.index(each) if each in LANGUAGES else 0 for each in languages]
    return torch.tensor(known, device=device)
