"""The first pass: a Conformer and its CTC head, which read while the clip is still coming (Graves et al. 2006)."""

from __future__ import annotations

from torch import Tensor, nn

from speechllm.encoders.conformer import Conformer, ConformerConfig
from speechllm.encoders.ctc import ALPHABET, CTCHead
from speechllm.encoders.masks import OFFLINE, AttentionPolicy


class FirstPass(nn.Module):
    """Frames of an encoder to frames of the Conformer and log-probabilities of characters, or of other labels."""

    def __init__(self, config: ConformerConfig, labels: int = len(ALPHABET)) -> None:
        super().__init__()
        self.conformer = Conformer(config)
        self.head = CTCHead(config.size, labels)

    def forward(
        self, hidden: Tensor, lengths: Tensor, policy: AttentionPolicy = OFFLINE
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, F), (B,) -> frames (B, T', D), log-probabilities (B, T', V), lengths (B,)."""
        frames, lengths = self.conformer(hidden, lengths, policy)
        return frames, self.head(frames), lengths
