"""Stage `ctc`: a Conformer and its CTC head learn to spell on the reader's cached frames (Graves et al. 2006).

The attention policy is drawn anew for each batch, so one set of weights reads whole clips and streams.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.audio.augment import spec_augment
from speechllm.data import cache
from speechllm.encoders.ctc import BLANK
from speechllm.encoders.masks import FULL_HISTORY, OFFLINE, AttentionPolicy, limited_history, look_ahead
from speechllm.readers.attention import WhisperModel
from speechllm.readers.first_pass import FirstPass
from speechllm.training.batching import Buckets, pad
from speechllm.training.loop import Schedule

# Five batches in eight are offline: that is how most clips are read, and what the alignment of the LLM's pieces uses.
POLICIES: tuple[AttentionPolicy, ...] = (OFFLINE,) * 5 + (FULL_HISTORY, limited_history(50), look_ahead(16))


@dataclass(frozen=True)
class CTCOptions:
    """What the recipe says of this stage."""

    schedule: Schedule
    size: int = 256
    layers: int = 5
    dropout: float = 0.1
    frames: int = 12000  # padded frames (50 Hz) of a batch
    seed: int = 0


def hidden_cache(
    root: Path, key: str, mels: Sequence[dict[str, Tensor]] | cache.Cache, model: WhisperModel, rows: Sequence[dict]
) -> cache.Cache:
    """The frozen encoder's hidden states of each row, (T, D) fp16 under `hidden`; clip by clip, as inference does."""
    dtype = model.encoder.conv1.weight.dtype

    def compute(part: list[dict]) -> list[dict[str, Tensor]]:
        out = []
        for row in part:
            mel = mels[row["index"]]["mel"].to(dtype)
            with torch.inference_mode():
                hidden, _ = model.encoder(mel[None], torch.tensor([len(mel)]))
            out.append({"hidden": hidden[0].half()})
        return out

    indexed = [{"audio": row["audio"], "index": i} for i, row in enumerate(rows)]
    return cache.build(root, f"hidden-{cache.digest(key, indexed)}", indexed, compute, "frames")


class CTCObjective:
    """CTC loss of each recording's labels, with time and feature masks on the frames (Park et al. 2019)."""

    def __init__(
        self,
        module: FirstPass,
        labels: Sequence[Sequence[int]],
        hidden: cache.Cache | cache.Chosen,
        options: CTCOptions,
    ) -> None:
        self.module: nn.Module = module
        self.labels, self.hidden, self.options = labels, hidden, options
        self.buckets = Buckets([len(hidden[i]["hidden"]) for i in range(len(labels))], options.frames, options.seed)

    def batch(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor, AttentionPolicy]:
        """hidden (B, T, F), lengths (B,), labels (B, L), label lengths (B,), and this batch's policy."""
        chosen = self.buckets[number]
        rng = random.Random(f"{self.options.seed}/policy/{number}")
        generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
        hidden, lengths = pad([spec_augment(self.hidden[i]["hidden"].float(), generator) for i in chosen])
        labels, counts = pad([torch.tensor(self.labels[i], dtype=torch.long) for i in chosen], BLANK)
        return hidden, lengths, labels, counts, rng.choice(POLICIES)

    def loss(self, module: Any, batch: tuple) -> tuple[Tensor, dict[str, float]]:
        """CTC loss a label."""
        hidden, lengths, labels, counts, policy = batch
        device = next(module.parameters()).device
        _, log_probs, frames = module(hidden.to(device), lengths.to(device), policy)
        loss = F.ctc_loss(
            log_probs.transpose(0, 1),
            labels.to(device),
            frames,
            counts.to(device),
            BLANK,
            reduction="sum",
            zero_infinity=True,
        )
        return loss / max(1, int(counts.sum())), {}
