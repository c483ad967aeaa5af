"""Speech tokens of the LLM: rows of their own beside the untouched word pieces, and heads of their own.

One step of the LLM says `group` = G frames of the codec's first codebook at once (Chen et al. 2024, "VALL-E 2", §3.2,
grouped code modelling), and whether the letter that is being said is done with it. A step reads the codes of the one
before, that letter and the next one, as the sum of their embeddings; each code of a step is predicted from the step's
hidden state and the codes before it. The base's embedding and head keep their size, and a step never pays for the rows
of text (VioLA, Wang et al. 2023, §3.2, has one vocabulary of both instead).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.encoders.ctc import ALPHABET
from speechllm.language.base import Language
from speechllm.language.vocabulary import Vocabulary
from speechllm.text_encoder import TextEncoder

INNER = 256  # width in which the later codes of a step take in the earlier ones
TEXT_WIDTH = 128  # inside the text encoder


class SpeechTokens(nn.Module):
    """Embeddings and heads of steps, for an LLM of width `size`.

    Args:
        codes: C, entries of the codebook.
        group: G, frames of a step.
    """

    def __init__(self, size: int, codes: int, group: int = 2) -> None:
        super().__init__()
        self.codes, self.group = codes, group
        self.embedding = nn.Embedding(group * codes + 1, size)  # the last row: nothing was said yet
        self.letters = nn.Embedding(len(ALPHABET), size)
        self.text = TextEncoder(size, TEXT_WIDTH)
        self.head = nn.Linear(size, codes, bias=False)  # of a step's first code
        self.later = nn.ModuleList(_Later(size, codes) for _ in range(group - 1))
        self.done = _Later(size, 1)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.zeros_(self.text.out.weight)

    @torch.no_grad()
    def begin(self, language: Language, vocabulary: Vocabulary) -> None:
        """Let letters begin as the LLM's own one-letter pieces."""
        for label, letter in enumerate(ALPHABET.letters, start=1):
            ids = torch.tensor(vocabulary.encode(letter), device=language.device)
            self.letters.weight[label] = language.embed(ids).mean(0).float()

    def read(self, labels: Tensor, languages: Tensor) -> Tensor:
        """Vectors (B, L, H) of letters (B, L), padded with 0, in languages (B,): see `TextEncoder.forward`."""
        return self.letters(labels) + self.text(labels, languages)

    def embed(self, before: Tensor, said: Tensor) -> Tensor:
        """Embeddings (…, H) of steps.

        Args:
            before: (…, G) int, codes of the step before; -1 where there was none.
            said: (…, H), what `read` gives for the letter that is said.
        """
        places = before + self.codes * torch.arange(self.group, device=before.device)
        none = torch.full_like(before, self.group * self.codes)
        return self.embedding(torch.where(before < 0, none, places)).sum(-2) + said

    def scores(self, hidden: Tensor, said: Tensor) -> Tensor:
        """Logits (…, C) float32 of a step's next code, by hidden states (…, H) and its codes so far (…, n), n < G."""
        if not said.shape[-1]:
            return F.linear(hidden.float(), self.head.weight.float())
        return self.later[said.shape[-1] - 1](hidden, self._sum(said))

    def is_done(self, hidden: Tensor, said: Tensor) -> Tensor:
        """Logit (…) float32 that the letter is done with a step of codes `said` (…, G)."""
        return self.done(hidden, self._sum(said)).squeeze(-1)

    def loss(self, hidden: Tensor, codes: Tensor, is_done: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of steps' codes (N, G), a code, and of letters' ends (N,) bool, a step; after hidden (N, H)."""
        total, right = hidden.new_zeros((), dtype=torch.float32), 0.0
        for number in range(self.group):
            scores = self.scores(hidden, codes[:, :number])
            total = total + F.cross_entropy(scores, codes[:, number]) / self.group
            right += float((scores.argmax(-1) == codes[:, number]).float().mean()) / self.group
        ends = F.binary_cross_entropy_with_logits(self.is_done(hidden, codes), is_done.float())
        return total + ends, {"codes": float(total.detach()), "ends": float(ends.detach()), "right": right}

    def _sum(self, said: Tensor) -> Tensor:
        return self.embedding(said + self.codes * torch.arange(said.shape[-1], device=said.device)).sum(-2)


class _Later(nn.Module):
    """Logits from a hidden state and the sum of the embeddings of what the step said so far, in float32."""

    def __init__(self, size: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(2 * size, INNER)
        self.head = nn.Linear(INNER, outputs)

    def forward(self, hidden: Tensor, said: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            both = [F.layer_norm(each.float(), each.shape[-1:]) for each in (hidden, said)]
            return self.head(F.gelu(self.narrow(torch.cat(both, -1))))
