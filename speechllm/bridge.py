"""Bridges turn what an encoder heard into positions of the LLM.

`ReadingBridge` gives the LLM what it can already read: its own embeddings of what a reader read, plus a learned
residual per token, pooled from the frames that the token spans. The residual starts at zero and carries what spelling
loses. `StackingBridge` is the plain projector of most speech-LLMs (Ma et al. 2024, "SLAM-ASR"): k frames stacked,
two linear layers; for recipes with large encoders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ReadingBridge(nn.Module):
    """Embeddings of the reading's tokens plus a residual of the frames under each.

    Args:
        frames_size: width D of the frames.
        size: width H of the LLM.
    """

    def __init__(self, frames_size: int, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(frames_size)
        self.residual = nn.Linear(frames_size, size, bias=False)
        nn.init.zeros_(self.residual.weight)

    def forward(self, embeddings: Tensor, pooled: Tensor | None) -> Tensor:
        """Add the residual: embeddings (N, H), pooled (N, D) or None for a reading given as text; returns (N, H)."""
        assert embeddings.ndim == 2, embeddings.shape
        if pooled is None or not len(embeddings):
            return embeddings
        assert pooled.shape[0] == embeddings.shape[0], (pooled.shape, embeddings.shape)
        weight = self.residual.weight
        return embeddings + self.residual(self.norm(pooled.to(weight.dtype))).to(embeddings.dtype)


def pool(hidden: Tensor, spans: Sequence[tuple[int, int]] | np.ndarray) -> Tensor:
    """Mean of the frames of each half-open span: (T, D) -> (N, D); an empty span takes the frame at its start."""
    assert hidden.ndim == 2, hidden.shape
    if not len(spans):
        return hidden.new_zeros(0, hidden.shape[1])
    edges = torch.as_tensor(spans, dtype=torch.long, device=hidden.device).clamp(0, hidden.shape[0])
    start = edges[:, 0].clamp(max=max(0, hidden.shape[0] - 1))
    end = torch.maximum(edges[:, 1], start + 1)
    sums = F.pad(hidden.float().cumsum(0), (0, 0, 1, 0))
    return ((sums[end] - sums[start]) / (end - start).unsqueeze(1)).to(hidden.dtype)


class StackingBridge(nn.Module):
    """k frames side by side through linear, ReLU, linear.

    Args:
        frames_size: width D of the frames.
        size: width H of the LLM.
        stack: frames k that make one position.
        inner: width between the two layers.
    """

    def __init__(self, frames_size: int, size: int, stack: int = 5, inner: int = 2048) -> None:
        super().__init__()
        self.stack = stack
        self.layers = nn.Sequential(nn.Linear(frames_size * stack, inner), nn.ReLU(), nn.Linear(inner, size))

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B,) -> (B, ceil(T / k), H), (B,) counts; frames past a row's length read zero."""
        assert hidden.ndim == 3 and lengths.shape == hidden.shape[:1], (hidden.shape, lengths.shape)
        kept = torch.arange(hidden.shape[1], device=hidden.device) < lengths.unsqueeze(1)
        hidden = F.pad(hidden * kept.unsqueeze(2), (0, 0, 0, -hidden.shape[1] % self.stack))
        stacked = hidden.unflatten(1, (-1, self.stack)).flatten(2)
        return self.layers(stacked), (lengths + self.stack - 1) // self.stack
